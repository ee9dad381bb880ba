"""train_head: a new head on the frozen backbone's features, into models/head."""

from thaw import stage
from thaw.params import Params


def train_head(params: Params) -> float:
    from thaw import phases

    return phases.train(params, "head")


if __name__ == "__main__":
    stage.run("train_head", train_head, keras=True)
