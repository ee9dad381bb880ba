"""The network in blocks: built, cut, frozen, and assembled into Keras models.

Start at `build_network`, which makes a `Network`; its `classifier` is what a phase trains.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from thaw.backbones import BACKBONES
from thaw.config.schema import Augment
from thaw.network.augmentation import DRAWS, Augmentation
from thaw.network.folding import fold, foldable_pairs, is_dropout
from thaw.network.modes import InferenceMode


@dataclass
class Network:
    """A backbone in blocks and, after `attach`, a head.

    Attributes:
        name, image_size, alpha: of the backbone, as in the parameters.
        input_size: side of the images that it takes, in pixels: those of data/processed.
        blocks: bottom to top, each a keras.Model from one tensor to one tensor.
        order: names of the backbone's `model.layers`, in which `layers: N` counts.
        pool: avg or flatten; None without a head.
        head: keras.Model from pooled features (d,) to logits (classes,); None without a head.
    """

    name: str
    image_size: int
    alpha: float | None
    input_size: int
    blocks: list[keras.Model]
    order: list[str]
    # Any, not `| None`: all code that uses the two runs after `attach`.
    pool: Any = None
    head: Any = None
    _pairs: list[dict[str, keras.layers.Layer]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._pairs = [foldable_pairs(block) for block in self.blocks]

    def attach(self, pool: str, units: int | None, dropout: float, classes: int, scale: float = 1.0) -> None:
        """Put a new head on top, as `build_head` makes it; `seeds.seed_initialisers` decides its initial weights."""
        self.pool = pool
        width = _pool(pool)(keras.KerasTensor(self.blocks[-1].output.shape)).shape[-1]
        self.head = build_head(width, units, dropout, classes, scale)

    def freeze(self, layers: int) -> None:
        """Freeze the first `layers` of the backbone's `model.layers`; make the others and the head trainable."""
        frozen = set(self.order[:layers])
        for layer in self.layers():
            layer.trainable = layer.name not in frozen
        if self.head is not None:
            self.head.trainable = True

    def freeze_below(self, depth: int) -> None:
        """Freeze all blocks below the cut of a depth, 0 to the number of blocks."""
        counts = [count for _, count in BACKBONES[self.name].blocks]
        self.freeze(sum(counts[: len(counts) - depth]))

    def thawed(self) -> str:
        """The trainable blocks besides the head, in words, such as `block4 and above`."""
        flags = {block.name: [layer.trainable for layer in block.layers if layer.weights] for block in self.blocks}
        names = [name for name, trainable in flags.items() if any(trainable)]
        if not names:
            return "nothing but the head"
        if len(names) == len(flags) and all(flags[names[0]]):
            return "all blocks"
        lowest = names[0] if all(flags[names[0]]) else f"part of {names[0]}"
        return lowest if len(names) == 1 else f"{lowest} and above"

    def depth_above(self, layers: int) -> int:
        """Depth of the shallowest cut below every trainable layer, if the first `layers` are frozen.

        A cut lies between two blocks: within a block, more than one tensor may cross it.
        """
        ends = itertools.accumulate(count for _, count in BACKBONES[self.name].blocks)
        return sum(end > layers for end in ends)

    def layers(self) -> list[keras.Layer]:
        """The backbone's layers but for the inputs of its blocks, bottom to top."""
        return [layer for block in self.blocks for layer in block.layers if not is_input(layer)]

    def widths(self, pool: str) -> dict[int, int]:
        """Number of activations per image at the cut of each depth; at depth 0, after pooling."""
        top = len(self.blocks)
        shapes = {top - number: block.input.shape for number, block in enumerate(self.blocks)}
        shapes[0] = _pool(pool)(keras.KerasTensor(self.blocks[-1].output.shape)).shape
        return {depth: math.prod(shape[1:]) for depth, shape in shapes.items()}

    def features(self, depths: Sequence[int], pool: str, augment: Augment | None) -> keras.Model:
        """A model from images to the activations at each cut, in inference mode.

        Its input is images, uint8 (n, side, side, 3). With augmentation it is a dict of images and their draws, as
        `augmentation_inputs` makes it, so that one model, traced once, serves for all views.

        Args:
            depths: the cuts; a depth is the number of blocks above. At 0 the activations are pooled, (n, d).
            pool: avg or flatten.
            augment: settings of augmentation; None for none.

        Returns:
            A model with one output for each of `depths`.
        """
        inputs, x = self.image_input(augment, with_draws=True)
        activations = {len(self.blocks): x}
        for number, block in enumerate(self._callable_blocks("inference", dropout=False), start=1):
            x = block(x)
            activations[len(self.blocks) - number] = x
        activations[0] = _pool(pool)(x)
        return keras.Model(inputs, [activations[depth] for depth in depths])

    def classifier(
        self, depth: int | None = None, augment: Augment | None = None, batch_norm: str = "inference"
    ) -> keras.Model:
        """A model from images, or from the activations at a cut, to logits, float32 (n, classes).

        Args:
            depth: the cut where the model starts, as the number of blocks above; its input is the output of
                `features` at that depth. None starts from images, uint8 (n, side, side, 3).
            augment: settings of augmentation, for training alone; None for none.
            batch_norm: inference (moving statistics are used and kept, in trainable layers, too) or train. Frozen
                BatchNorm is always in inference mode, as in Keras; so is frozen Dropout.
        """
        if depth == 0:
            features = keras.Input(self.head.input.shape[1:], name="features")
            return keras.Model(features, self.head(features))
        if depth is None:
            inputs, x = self.image_input(augment)
            depth = len(self.blocks)
        else:
            x = inputs = keras.Input(self.blocks[-depth].input.shape[1:], name="activations")
        for block in self._callable_blocks(batch_norm)[-depth:]:
            x = block(x)
        return keras.Model(inputs, self.head(self.pooled(x)))

    def pooled(self, x):
        """The input of the head: the last activations, pooled."""
        return _pool(self.pool)(x)

    def _callable_blocks(self, batch_norm: str, dropout: bool = True) -> list[keras.layers.Layer]:
        """The blocks with trainable BatchNorm in the given mode, and with or without trainable Dropout.

        BatchNorm in inference mode is folded into convolutions. Frozen Dropout is left out, so that a model has the
        same random layers, by number, whether it starts at a cut or from images.
        """

        def trains(layer: keras.layers.Layer) -> bool:
            norm = isinstance(layer, keras.layers.BatchNormalization)
            return layer.trainable and (norm and batch_norm == "train" or dropout and is_dropout(layer))

        blocks = []
        for block, pairs in zip(self.blocks, self._pairs, strict=True):
            # All BatchNorm but these is folded: where they are Dropout alone, none of it is in training mode.
            kept = [layer.name for layer in block.layers if trains(layer)]
            folded = fold(block, pairs, keep=kept)
            blocks.append(folded if kept else InferenceMode(folded))
        return blocks

    def image_input(self, augment: Augment | None = None, with_draws: bool = False):
        """The input of a model, and the tensor for the lowest block: augmented, normalised and resized images.

        Args:
            augment: settings of augmentation; None for none.
            with_draws: augment by the draws of a second input, in any mode; otherwise at random, in training alone.
        """
        backbone = BACKBONES[self.name]
        inputs = images = keras.Input((self.input_size, self.input_size, 3), dtype="uint8", name="images")
        if augment is None or augment.changes_nothing:
            # On JAX, Resizing keeps the type of its input: as uint8, images would lose fractions.
            x = keras.ops.cast(images, "float32")
        elif with_draws:
            inputs = {"images": images, "draws": keras.Input((DRAWS,), name="draws")}
            x = Augmentation(augment)(**inputs)
        else:
            x = Augmentation(augment)(images)
        # In float32, whatever the precision of the blocks. Before resizing, which is linear: fewer pixels cost less.
        x = Normalise(backbone.mean, backbone.std, backbone.channels, dtype="float32", name="normalise")(x)
        if self.image_size != self.input_size:
            x = keras.layers.Resizing(self.image_size, self.image_size, dtype="float32", name="resize")(x)
        return inputs, x


class Normalise(keras.layers.Layer):
    """Subtract the mean and divide by the standard deviation of each channel.

    Args:
        mean, std: three numbers each, for pixels of 0 to 255, in the order of `channels`.
        channels: rgb, or bgr to reverse the channels first.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: str, **options) -> None:
        super().__init__(**options)
        self.mean, self.std, self.channels = tuple(mean), tuple(std), channels

    def call(self, images):
        x = keras.ops.cast(images, self.compute_dtype)
        if self.channels == "bgr":
            x = keras.ops.flip(x, axis=-1)
        mean = keras.ops.convert_to_tensor(self.mean, self.compute_dtype)
        return (x - mean) / keras.ops.convert_to_tensor(self.std, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict:
        return super().get_config() | {"mean": self.mean, "std": self.std, "channels": self.channels}


def build_network(
    name: str, image_size: int, alpha: float | None, input_size: int, weights: str | None = None
) -> Network:
    """A backbone in blocks, without a head.

    Args:
        name: a key of BACKBONES.
        image_size: side of the resized images, in pixels.
        alpha: width multiplier; None for a backbone without one.
        input_size: side of the images that it takes, in pixels.
        weights: imagenet, or None for random values, which `seeds.seed_initialisers` decides.
    """
    return split_backbone(name, BACKBONES[name].build(image_size, alpha, weights), alpha, input_size)


def split_backbone(name: str, model: keras.Model, alpha: float | None, input_size: int) -> Network:
    """Cut a backbone's model into the blocks that BACKBONES lists for it; the blocks share its layers."""
    blocks, start, last = [], model.input, 0
    for block, count in BACKBONES[name].blocks:
        last += count
        end = model.layers[last - 1].output
        blocks.append(keras.Model(start, end, name=block))
        start = end
    order = [layer.name for layer in model.layers]
    return Network(name, model.input.shape[1], alpha, input_size, blocks, order)


def build_head(width: int, units: int | None, dropout: float, classes: int, scale: float = 1.0) -> keras.Model:
    """The head, from features (width,) to logits (classes,): Dense with ReLU if `units` is given, Dropout, Dense.

    Features are multiplied by `scale` first. VGG16's have a deviation of 12: unscaled, the first loss is 16, and 5,000
    images of CIFAR-10 lead to 0.544 on validation in 10 epochs, scaled to 0.626.

    It ends in logits: the loss and `inference.softmax` compute the softmax, exactly also where a probability
    is near 0.
    """
    x = features = keras.Input((width,), name="features")
    if scale != 1:
        x = keras.layers.Rescaling(scale, name="scale")(x)
    if units is not None:
        x = keras.layers.Dense(units, activation="relu", name="hidden")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    # In float32, also if the blocks compute in bfloat16: its 8 bits of precision would round the loss.
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(features, logits, name="head")


def adapt_batch_norm(layers: Sequence[keras.Layer], steps: int, average: float) -> None:
    """Set the momentum of trainable BatchNorm layers for epochs of `steps` steps.

    With MobileNetV2's 0.999 the moving statistics lag for epochs. max(1 - 10 / steps, 0.9) is
    from Kornblith et al., "Do Better ImageNet Models Transfer Better?" (2019), appendix A.5.

    Args:
        layers: of a network.
        steps: per epoch.
        average: momentum of the moving average of the weights: statistics are averaged over as many steps at least.
    """
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            layer.momentum = max(1 - 10 / max(steps, 1), 0.9, average)


def _pool(pool: str) -> keras.Layer:
    return {"avg": keras.layers.GlobalAveragePooling2D, "flatten": keras.layers.Flatten}[pool](name="pool")


def is_input(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.InputLayer)
