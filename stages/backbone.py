"""backbone: the one place where weights come from, into models/backbone."""

from thaw import paths, stage
from thaw.params import Params

# On top of a source task: nothing that the backbone could leave the work to.
SOURCE_HEAD = {"pool": "avg", "units": None, "dropout": 0.0}


def backbone(params: Params) -> float:
    from thaw import checkpoint, curves, device, splits, state, training, weights
    from thaw.feeding import Examples
    from thaw.training import Data

    chosen = params.backbone
    if chosen.weights == "imagenet":
        print(f"backbone: ImageNet weights of {chosen.name}, downloaded where they are not here yet", flush=True)
    network = weights.backbone(chosen, params.seed)
    info = checkpoint.Info(
        backbone={"name": chosen.name, "image_size": chosen.image_size, "alpha": chosen.alpha},
        weights=weights.origin(chosen, params.seed),
    )
    report = curves.reporter("backbone", "backbone")
    if chosen.source is None:
        report([])
        checkpoint.save(paths.BACKBONE, info, network)
        return 0.0
    info.head = SOURCE_HEAD
    info.classes = splits.class_names(chosen.source.classes, "backbone.source.classes")
    network.attach(**SOURCE_HEAD, classes=len(info.classes))
    network.freeze(0)
    train = Examples(*splits.read("train", info.classes))
    settings = params.of("batch_size", "seed", "augment", "backbone") | {"weights": info.weights}
    with state.opened("backbone", settings, paths.SPLITS_LEARNT, str(device.chosen)) as saved:
        info.history = training.fit_network(
            network,
            training.Run("backbone", "source", chosen.source, params.batch_size, params.seed, [], state=saved),
            Data(None, [train], Examples(*splits.read("val", info.classes))),
            augment=params.augment,
            batch_norm="train",
            report=report,
        )
        checkpoint.save(paths.BACKBONE, info, network)
    return saved.earlier


if __name__ == "__main__":
    stage.run("backbone", backbone, keras=True)
