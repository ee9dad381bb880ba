"""Short training runs from one start, of which nothing is kept. Start at `Trials`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from thaw.data.examples import TrainingData
from thaw.errors import NotFinite
from thaw.network.build import Network
from thaw.network.history import Row
from thaw.training.loop import Run, train_network
from thaw.training.reporting import Observer


class Trials:
    """Short runs of a network, each from the weights that it has now.

    Attributes:
        network: with a head; it may be thawed to another depth before each run.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._layers = [*network.layers(), *network.head.layers]
        self._start = [layer.get_weights() for layer in self._layers]

    def train(self, run: Run, data: TrainingData, epochs: int, rate: float, observers: Sequence[Observer] = ()) -> Row:
        """The last row of the history of a run; accuracies and losses are nan where a loss was not finite.

        Args:
            run: its settings, but for its length and its first learning rate; warm-up and decay are in proportion.
            data: images, or activations stored at the cut that the network is thawed to.
            epochs, rate: of this run.
            observers: as for `train_network`, made for `shortened(run, epochs, rate)`.
        """
        for layer, weights in zip(self._layers, self._start, strict=True):
            layer.set_weights(weights)
        try:
            return train_network(self.network, shortened(run, epochs, rate), data, observers).rows[-1]
        except NotFinite:
            return dict.fromkeys(("train_loss", "train_accuracy", "val_loss", "val_accuracy"), np.nan)


def shortened(run: Run, epochs: int, rate: float) -> Run:
    """A run of other length and first learning rate, warm-up and final rate in proportion; it does not stop early."""
    usual = run.training
    changes = {
        "epochs": epochs,
        "warmup_epochs": usual.warmup_epochs * epochs / max(usual.epochs, epochs),
        "learning_rate": rate,
        "final_learning_rate": usual.final_learning_rate * rate / usual.learning_rate,
        "patience": None,
    }
    return replace(run, training=usual.model_copy(update=changes))
