"""CIFAR-10: 60,000 images of 10 classes, 32x32 pixels (Krizhevsky, "Learning Multiple Layers of Features", 2009)."""

from thaw.datasets import Archive, Dataset

DATASET = Dataset(
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    train_count=50_000,
    test_count=10_000,
    source=Archive(
        folder="cifar-10-batches-bin",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test=("test_batch.bin",),
        records_per_train_file=10_000,
        records_per_test_file=10_000,
        label_bytes=1,
        names=("batches.meta.txt",),
    ),
)
