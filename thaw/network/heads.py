"""What a new head takes over from the head of an earlier model. Start at `EarlierHead`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from thaw.network.build import Network
from thaw.network.checkpoint import FROM_CHECKPOINT, CheckpointInfo

# Classes that a message names one by one.
_NAMED = 10


@dataclass(frozen=True)
class EarlierHead:
    """The head of an earlier model.

    Attributes:
        model: from features to logits.
        settings: pool, units and the like, as `Network.attach` takes them.
        classes: names, in the order of the logits.
    """

    model: keras.Model
    settings: dict[str, Any]
    classes: list[str]

    @classmethod
    def of(cls, network: Network, info: CheckpointInfo) -> "EarlierHead | None":
        """The head of a backbone whose weights come from another checkpoint; None for any other, and without a head."""
        if info.weights.get("origin") != FROM_CHECKPOINT or info.head is None:
            return None
        return cls(network.head, info.head, info.classes)

    @property
    def scale(self) -> float:
        """Factor of the features that the weights have learnt with."""
        return self.settings.get("scale", 1.0)

    def misfit(self, pool: str, units: int | None, classes: Sequence[str]) -> str:
        """Why a head of these settings can take nothing over, in words; empty where it can."""
        for key, value in {"pool": pool, "units": units}.items():
            if value != self.settings[key]:
                now, before = ("null" if each is None else each for each in (value, self.settings[key]))
                return f"head.{key} is {now}, {before} in the checkpoint"
        return "" if units or set(classes) & set(self.classes) else "no class is one of the checkpoint's"

    def hand_over(self, head: keras.Model, classes: Sequence[str]) -> None:
        """Copy the hidden layer, and the output of each class by its name, into a head that fits.

        A new class starts with the mean of these outputs. A mean of logits is never above the largest: the head
        predicts what the earlier one did among the classes of both (Hewitt, "Initializing New Word Embeddings for
        Pretrained Language Models", 2021). Without a class of both, the output layer stays as it is.

        Args:
            head: from features to logits.
            classes: names, in the order of its logits.
        """
        if self.settings["units"]:
            head.get_layer("hidden").set_weights(self.model.get_layer("hidden").get_weights())
        if not set(classes) & set(self.classes):
            return
        kernel, bias = map(np.asarray, self.model.get_layer("logits").get_weights())
        outputs = np.vstack([kernel, bias])  # (features + 1, classes)
        known = {name: outputs[:, number] for number, name in enumerate(self.classes) if name in classes}
        mean: np.ndarray = np.mean(list(known.values()), axis=0)
        values = np.stack([known.get(name, mean) for name in classes], axis=1)
        head.get_layer("logits").set_weights([values[:-1], values[-1]])

    def describe(self, classes: Sequence[str]) -> str:
        """What `hand_over` copies, in words, such as `the hidden layer and the output of 7, 8; new classes: 9`."""
        known = [name for name in classes if name in self.classes]
        new = [name for name in classes if name not in self.classes]
        layers = ["the hidden layer"] if self.settings["units"] else []
        layers += [f"the output of {_listed(known)}"] if known else []
        return f"{' and '.join(layers)}; new classes: {_listed(new) if new else 'none'}"


def _listed(classes: list[str]) -> str:
    return ", ".join(classes) if len(classes) <= _NAMED else f"{len(classes)} classes, such as {classes[0]}"
