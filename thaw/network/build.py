"""The network in blocks: built, cut, frozen, and put together again as Keras models."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from thaw.backbones import BACKBONES
from thaw.config.schema import Augment
from thaw.network.augmentation import SWITCH, augmentation_layers
from thaw.network.folding import fold, foldable_pairs
from thaw.network.modes import InMode

# Side of the pictures in data/processed, in pixels.
PICTURE_SIZE = 32


@dataclass
class Network:
    """A backbone in blocks and, once there is one, a head.

    Attributes:
        name, image_size, alpha: which backbone, as in the parameters.
        blocks: bottom to top, each a keras.Model from one tensor to one tensor.
        order: names of the backbone's `model.layers`, which `layers: N` counts in.
        pool: avg or flatten; None without a head.
        head: keras.Model from pooled features (d,) to logits (classes,); None without a head.
    """

    name: str
    image_size: int
    alpha: float | None
    blocks: list[keras.Model]
    order: list[str]
    # Any, not `| None`: what uses the two comes after `attach`.
    pool: Any = None
    head: Any = None
    _pairs: list[dict[str, keras.layers.Layer]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._pairs = [foldable_pairs(block) for block in self.blocks]

    def attach(self, pool: str, units: int | None, dropout: float, classes: int) -> None:
        """Put a new head on top; its weights follow `seeds.initialise`."""
        self.pool = pool
        width = _pool(pool)(keras.KerasTensor(self.blocks[-1].output.shape)).shape[-1]
        self.head = build_head(width, units, dropout, classes)

    def freeze(self, layers: int) -> None:
        """Freeze the first `layers` of the backbone's `model.layers`; thaw the others and the head."""
        frozen = set(self.order[:layers])
        for layer in self.layers():
            layer.trainable = layer.name not in frozen
        if self.head is not None:
            self.head.trainable = True

    def thawed(self) -> str:
        """What is to be trained besides the head, in words, for people."""
        parts = {block.name: [layer.trainable for layer in block.layers if layer.weights] for block in self.blocks}
        names = [name for name, trainable in parts.items() if any(trainable)]
        if not names:
            return "nothing but the head"
        if len(names) == len(parts) and all(parts[names[0]]):
            return "all blocks"
        lowest = names[0] if all(parts[names[0]]) else f"part of {names[0]}"
        return lowest if len(names) == 1 else f"{lowest} and above"

    def depth_above(self, layers: int) -> int:
        """The least depth whose cut has all that is thawed above it when the first `layers` are frozen.

        A cut within a block counts for the boundary below it: two tensors may cross it.
        """
        ends = itertools.accumulate(count for _, count in BACKBONES[self.name].blocks)
        return sum(end > layers for end in ends)

    def layers(self) -> list[keras.Layer]:
        """The backbone's layers that hold or may hold weights, bottom to top."""
        return [layer for block in self.blocks for layer in block.layers if not is_input(layer)]

    def widths(self, pool: str) -> dict[int, int]:
        """Values per picture at the cut of each depth; at 0 after pooling."""
        top = len(self.blocks)
        shapes = {top - number: block.input.shape for number, block in enumerate(self.blocks)}
        shapes[0] = _pool(pool)(keras.KerasTensor(self.blocks[-1].output.shape)).shape
        return {depth: math.prod(shape[1:]) for depth, shape in shapes.items()}

    def features(self, depths: Sequence[int], pool: str, augment: Augment | None) -> keras.Model:
        """From pictures to the activations at each cut, in inference mode.

        Takes pictures, uint8 (n, 32, 32, 3); with augmentation a dict of these and of which ones are
        to be augmented, as `augmentation.inputs` makes it: one model, traced once, for both.

        Args:
            depths: cuts, as the number of blocks above; at 0 the activations are pooled, (n, d).
            pool: avg or flatten.
            augment: how; where that changes nothing, or is None, the pictures are taken as they are.

        Returns:
            A model of one output for each of `depths`.
        """
        inputs, x = self.pictures(augment, always=True)
        at = {len(self.blocks): x}
        for number, block in enumerate(self._runs("inference"), start=1):
            x = block(x)
            at[len(self.blocks) - number] = x
        at[0] = _pool(pool)(x)
        return keras.Model(inputs, [at[depth] for depth in depths])

    def classifier(
        self, depth: int | None = None, augment: Augment | None = None, batch_norm: str = "inference"
    ) -> keras.Model:
        """From pictures, or from the activations at a cut, to logits, float32 (n, classes).

        Args:
            depth: the cut that the model starts from, as the number of blocks above; it takes what
                `features` gives there. None starts from pictures, uint8 (n, 32, 32, 3).
            augment: augment pictures in training; None never does.
            batch_norm: inference (statistics stay, also where thawed) or train. Frozen BatchNorm is
                always in inference mode, as Keras has it for layers that are not trainable.
        """
        if depth == 0:
            features = keras.Input(self.head.input.shape[1:], name="features")
            return keras.Model(features, self.head(features))
        if depth is None:
            inputs, x = self.pictures(augment, always=False)
            depth = len(self.blocks)
        else:
            x = inputs = keras.Input(self.blocks[-depth].input.shape[1:], name="activations")
        for block in self._runs(batch_norm)[-depth:]:
            x = block(x)
        return keras.Model(inputs, self.head(self.pooled(x)))

    def pooled(self, x):
        """What the head takes of the last activations."""
        return _pool(self.pool)(x)

    def _runs(self, batch_norm: str) -> list[keras.Layer]:
        """The blocks, to be called, with BatchNorm in a mode, and folded where it is in inference mode."""
        runs = []
        for block, pairs in zip(self.blocks, self._pairs, strict=True):
            trains = [
                layer.name
                for layer in block.layers
                if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and batch_norm == "train"
            ]
            folded = fold(block, pairs, keep=trains)
            runs.append(folded if trains else InMode(folded, training=False))
        return runs

    def pictures(self, augment: Augment | None, always: bool):
        """The input, and the tensor that the lowest block takes: augmented, normalised, resized.

        Augmentation happens in training or, where `always` says so, whenever the input asks for it.
        """
        row = BACKBONES[self.name]
        inputs = pictures = keras.Input((PICTURE_SIZE, PICTURE_SIZE, 3), dtype="uint8", name="pictures")
        # Resizing gives the type that it gets, on JAX: pictures that are not augmented would lose fractions.
        x = plain = keras.ops.cast(pictures, "float32")
        layers = augmentation_layers(augment, always) if augment else []
        for layer in layers:
            x = layer(x)
        if always and layers:
            switch = keras.Input((), dtype="bool", name=SWITCH)
            x = keras.ops.where(keras.ops.reshape(switch, (-1, 1, 1, 1)), x, plain)
            inputs = {"pictures": pictures, SWITCH: switch}
        # In float32 whatever the blocks compute in. Before resizing, which is linear: so few pixels cost less.
        x = Normalise(row.mean, row.std, row.channels, dtype="float32", name="normalise")(x)
        if self.image_size != PICTURE_SIZE:
            x = keras.layers.Resizing(self.image_size, self.image_size, dtype="float32", name="resize")(x)
        return inputs, x


class Normalise(keras.layers.Layer):
    """Subtract the mean and divide by the standard deviation of each channel.

    Args:
        mean, std: three numbers each, of pixels from 0 to 255, in the order of `channels`.
        channels: rgb, or bgr to turn the channels round first.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: str, **options) -> None:
        super().__init__(**options)
        self.mean, self.std, self.channels = tuple(mean), tuple(std), channels

    def call(self, pictures):
        x = keras.ops.cast(pictures, self.compute_dtype)
        if self.channels == "bgr":
            x = keras.ops.flip(x, axis=-1)
        mean = keras.ops.convert_to_tensor(self.mean, self.compute_dtype)
        return (x - mean) / keras.ops.convert_to_tensor(self.std, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict:
        return super().get_config() | {"mean": self.mean, "std": self.std, "channels": self.channels}


def build_network(name: str, image_size: int, alpha: float | None, weights: str | None = None) -> Network:
    """A backbone of the table in blocks, without a head.

    Args:
        name: a row of BACKBONES.
        image_size: side of the resized pictures, in pixels.
        alpha: width, where the backbone has one.
        weights: imagenet, or None for random values (they follow `seeds.initialise`).
    """
    return split_backbone(name, BACKBONES[name].build(image_size, alpha, weights), alpha)


def split_backbone(name: str, model: keras.Model, alpha: float | None) -> Network:
    """Cut a backbone's model into the blocks of its row; the blocks share its layers."""
    blocks, start, last = [], model.input, 0
    for block, count in BACKBONES[name].blocks:
        last += count
        end = model.layers[last - 1].output
        blocks.append(keras.Model(start, end, name=block))
        start = end
    order = [layer.name for layer in model.layers]
    return Network(name, model.input.shape[1], alpha, blocks, order)


def build_head(width: int, units: int | None, dropout: float, classes: int) -> keras.Model:
    """From features (width,) to logits (classes,): Dense and ReLU where `units` says so, Dropout, Dense.

    The softmax is the loss's and `evaluation.softmax`'s, which is exact where a probability is near 0.
    """
    x = features = keras.Input((width,), name="features")
    if units is not None:
        x = keras.layers.Dense(units, activation="relu", name="hidden")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    # In float32 also where the blocks compute in bfloat16, whose 8 bits would round the loss.
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(features, logits, name="head")


def adapt_batch_norm(layers: Sequence[keras.Layer], steps: int) -> None:
    """Give thawed BatchNorm layers a momentum that `steps` steps an epoch can follow.

    MobileNetV2's 0.999 leaves the moving statistics behind for epochs. max(1 - 10 / steps, 0.9) is
    from Kornblith et al., "Do Better ImageNet Models Transfer Better?" (2019), appendix A.5.
    """
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            layer.momentum = max(1 - 10 / max(steps, 1), 0.9)


def _pool(pool: str) -> keras.Layer:
    return {"avg": keras.layers.GlobalAveragePooling2D, "flatten": keras.layers.Flatten}[pool](name="pool")


def is_input(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.InputLayer)
