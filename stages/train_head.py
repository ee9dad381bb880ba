"""train_head: a new head on the frozen backbone's features, into models/head."""

from thaw import paths, stage
from thaw.params import Params, class_weights


def train_head(params: Params) -> None:
    from thaw import checkpoint, curves, device, features, seeds, state, training

    chosen = params.head
    network, info = checkpoint.load(paths.BACKBONE, with_head=False)
    features.refuse_others(paths.FEATURES, features.origin_of(checkpoint.hashes(paths.BACKBONE), params.augment))
    stored = features.read_info(paths.FEATURES)
    info.head = {"pool": stored["pool"], "units": chosen.units, "dropout": chosen.dropout}
    info.classes = stored["classes"]

    seeds.initialise(params.seed, "train_head")
    network.attach(**info.head, classes=len(info.classes))
    network.freeze(len(network.order))
    settings = params.of("batch_size", "class_weights", "seed", "augment", "head")
    data = features.data(paths.FEATURES, 0, info.classes)
    inputs = [paths.BACKBONE, paths.FEATURES, *paths.SPLITS_LEARNT]
    with state.opened("train_head", settings, inputs, str(device.chosen)) as saved:
        info.history = training.fit_network(
            network,
            training.Run(
                "train_head",
                "head",
                chosen,
                params.batch_size,
                params.seed,
                [],
                chosen.mixup,
                saved,
                training.class_weights(class_weights(params), info.classes, data.views[0].labels),
            ),
            data,
            augment=params.augment,
            batch_norm="inference",
            report=curves.reporter("train_head", "head"),
        )
        info.thawed = {"head": network.thawed()}
        checkpoint.save(paths.model("head"), info, network)
        curves.write_metrics("head", info.history)


if __name__ == "__main__":
    stage.run("train_head", train_head, keras=True)
