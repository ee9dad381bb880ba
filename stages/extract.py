"""extract: what the frozen backbone makes of each view, into data/features, and a picture of the views."""

from thaw import paths, stage
from thaw.params import Params


def extract(params: Params) -> float:
    from thaw import augmentation, checkpoint, device, features, pictures, splits, state
    from thaw.feeding import Examples

    classes = splits.class_names(params.dataset.classes)
    network, _ = checkpoint.load(paths.BACKBONE, with_head=False)
    train = Examples(*splits.read("train", classes))
    val = Examples(*splits.read("val", classes))
    settings = params.of("augment", "extract") | {"pool": params.head.pool, "classes": classes}
    inputs = [paths.BACKBONE, *paths.SPLITS_LEARNT]
    with state.opened("extract", settings, inputs, str(device.chosen)) as saved:
        features.extract(
            paths.FEATURES,
            network,
            params.head.pool,
            classes,
            train,
            val,
            params.augment,
            params.extract,
            saved,
            features.origin_of(checkpoint.hashes(paths.BACKBONE), params.augment),
        )

    shown = pictures.samples(train.labels, len(classes))
    views = augmentation.views(train.inputs[shown], params.augment)
    titles = ["view 0: as it is", *(f"view {number}" for number in range(1, len(views)))]
    pictures.grid(paths.PLOTS / "views.png", views, titles, classes[: len(shown)])
    return saved.earlier


if __name__ == "__main__":
    stage.run("extract", extract, keras=True)
