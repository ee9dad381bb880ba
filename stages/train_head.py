"""train_head: a new head on the frozen backbone's features, into models/head."""

from thaw import paths, stage
from thaw.params import Params


def train_head(params: Params) -> None:
    from thaw import checkpoint, curves, features, network, seeds, training

    stored = features.read_info(paths.FEATURES)
    val = features.read(paths.FEATURES, 0, "val")
    chosen = params.head
    info = checkpoint.read_info(paths.BACKBONE)
    info.head = {"pool": stored["pool"], "units": chosen.units, "dropout": chosen.dropout}
    info.classes = stored["classes"]

    seeds.initialise(params.seed, "train_head")
    head = network.build_head(val.inputs.shape[1], chosen.units, chosen.dropout, len(info.classes))
    info.history = training.fit(
        head,
        training.Run("train_head", "head", chosen, params.batch_size, params.seed, []),
        lambda epoch: features.read(paths.FEATURES, 0, (epoch - 1) % stored["views"]),
        val,
        curves.reporter("train_head", "head"),
    )
    checkpoint.save(paths.model("head"), info, {checkpoint.HEAD: head}, unchanged=paths.BACKBONE)
    curves.write_metrics("head", info.history)


if __name__ == "__main__":
    stage.run("train_head", train_head, keras=True)
