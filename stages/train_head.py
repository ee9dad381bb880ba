"""train_head: a new head on the frozen backbone's features, into models/head."""

from thaw import paths, stage
from thaw.params import Params


def train_head(params: Params) -> None:
    from thaw import checkpoint, curves, features, seeds, training

    chosen = params.head
    network, info = checkpoint.load(paths.BACKBONE, with_head=False)
    stored = features.read_info(paths.FEATURES)
    info.head = {"pool": stored["pool"], "units": chosen.units, "dropout": chosen.dropout}
    info.classes = stored["classes"]

    seeds.initialise(params.seed, "train_head")
    network.attach(**info.head, classes=len(info.classes))
    network.freeze(len(network.order))
    info.history = training.fit_network(
        network,
        training.Run("train_head", "head", chosen, params.batch_size, params.seed, [], chosen.mixup),
        features.data(paths.FEATURES, 0, info.classes),
        augment=params.augment,
        batch_norm="inference",
        report=curves.reporter("train_head", "head"),
    )
    checkpoint.save(paths.model("head"), info, network)
    curves.write_metrics("head", info.history)


if __name__ == "__main__":
    stage.run("train_head", train_head, keras=True)
