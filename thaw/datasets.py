"""The datasets: one row each. Adding one is a row here and a YAML in conf/dataset."""

from dataclasses import dataclass

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# In the order of fine_label_names.txt in the official archive.
CIFAR100_CLASSES = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
    otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
    sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm""".split()
)


@dataclass(frozen=True)
class Archive:
    """The layout of an official binary archive: records of label bytes and 3,072 bytes R, G, B, row-major."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    records_per_train_file: int
    records_per_test_file: int
    # Label bytes before each picture; the last is the class to learn, one before it a superclass.
    label_bytes: int
    # Files of class names, one for each label byte.
    names: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before anything is read."""

    classes: tuple[str, ...]
    train_count: int
    test_count: int
    # None for a dataset that comes with a library.
    archive: Archive | None


DATASETS = {
    "cifar10": Dataset(
        classes=CIFAR10_CLASSES,
        train_count=50_000,
        test_count=10_000,
        archive=Archive(
            folder="cifar-10-batches-bin",
            train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            test=("test_batch.bin",),
            records_per_train_file=10_000,
            records_per_test_file=10_000,
            label_bytes=1,
            names=("batches.meta.txt",),
        ),
    ),
    "cifar100": Dataset(
        classes=CIFAR100_CLASSES,
        train_count=50_000,
        test_count=10_000,
        archive=Archive(
            folder="cifar-100-binary",
            train=("train.bin",),
            test=("test.bin",),
            records_per_train_file=50_000,
            records_per_test_file=10_000,
            label_bytes=2,
            names=("coarse_label_names.txt", "fine_label_names.txt"),
        ),
    ),
    # scikit-learn's; every fifth picture of a class is a test picture (thaw.archives.read_digits).
    "digits": Dataset(classes=tuple("0123456789"), train_count=1_433, test_count=364, archive=None),
}
