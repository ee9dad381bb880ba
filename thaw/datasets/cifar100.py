"""CIFAR-100: 60,000 images of 100 classes in 20 superclasses, 32x32 pixels (Krizhevsky, 2009)."""

from thaw.datasets import Archive, Dataset

DATASET = Dataset(
    # In the order of fine_label_names.txt in the official archive.
    classes=tuple(
        """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
        camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
        dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
        leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
        otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
        road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
        sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
        willow_tree wolf woman worm""".split()
    ),
    train_count=50_000,
    test_count=10_000,
    source=Archive(
        folder="cifar-100-binary",
        train=("train.bin",),
        test=("test.bin",),
        records_per_train_file=50_000,
        records_per_test_file=10_000,
        label_bytes=2,
        names=("coarse_label_names.txt", "fine_label_names.txt"),
    ),
)
