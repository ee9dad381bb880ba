"""PyTorch's side of the benchmarks: MobileNetV2. Start at `mobilenet`, or at `build` for measurements of speed alone.

The plain model has keras.applications' layers and takes its weights; for speed alone, `build` takes timm's where it is
installed. Frozen layers run under no_grad without gradients; augmentation and resizing run batch by batch on the
device, as a careful user does it.
"""

import argparse
import json
import time
from collections.abc import Iterable
from importlib.util import find_spec

import numpy as np

# Expansion, channels at width 1, number, stride: Sandler et al. (2018), table 2.
_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def available() -> bool:
    return find_spec("torch") is not None


def has(backbone: str) -> bool:
    """Whether there is a PyTorch model for a backbone of thaw's: our own MobileNetV2, torchvision's others."""
    return backbone == "mobilenetv2" or find_spec("torchvision") is not None


def _divisible(value: float) -> int:
    """The nearest multiple of 8, never less than 90 % of the value, as in keras.applications."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def mobilenet(alpha: float):
    """Blocks of MobileNetV2 without a classifier, bottom to top as in thaw.backbones, and the width of the last."""
    from torch import nn

    def conv(start: int, end: int, size: int, stride: int = 1, groups: int = 1, active: bool = True) -> list:
        # Images have even sides: where the stride is 2, Keras pads them at the right and at the bottom alone.
        pad = [nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []
        padding = 0 if pad else size // 2
        layers = [*pad, nn.Conv2d(start, end, size, stride, padding, groups=groups, bias=False)]
        # PyTorch's momentum, as the statistics of Keras's 0.999 lag for epochs.
        layers.append(nn.BatchNorm2d(end, eps=1e-3))
        return [*layers, nn.ReLU6()] if active else layers

    class Bottleneck(nn.Module):
        def __init__(self, start: int, end: int, stride: int, expansion: int) -> None:
            super().__init__()
            inner = start * expansion
            first = conv(start, inner, 1) if expansion > 1 else []
            self.body = nn.Sequential(*first, *conv(inner, inner, 3, stride, inner), *conv(inner, end, 1, active=False))
            self.adds = stride == 1 and start == end

        def forward(self, x):
            return x + self.body(x) if self.adds else self.body(x)

    width = _divisible(32 * alpha)
    blocks = [conv(3, width, 3, 2)]
    for expansion, channels, number, stride in _GROUPS:
        group = []
        for place in range(number):
            end = _divisible(channels * alpha)
            group.append(Bottleneck(width, end, stride if place == 0 else 1, expansion))
            width = end
        # The stem has the first bottleneck, as in thaw.backbones.
        blocks = [[*blocks[0], *group]] if expansion == 1 else [*blocks, group]
    last = _divisible(1280 * alpha) if alpha > 1 else 1280
    blocks[-1] += conv(width, last, 1)
    return [nn.Sequential(*block) for block in blocks], last


def load_weights(blocks: list, file: str) -> None:
    """Load a file in keras.applications' layout into the blocks of `mobilenet`."""
    import h5py
    import torch
    from torch import nn

    with h5py.File(file) as stored:
        groups = [stored[layer] for layer in stored.attrs["layer_names"]]
        groups = [[group[weight][()] for weight in group.attrs["weight_names"]] for group in groups]
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    layers = [layer for block in blocks for layer in block.modules() if isinstance(layer, kinds)]
    with torch.no_grad():
        for layer, values in zip(layers, filter(None, groups), strict=True):
            tensors = list(map(torch.from_numpy, values))
            if isinstance(layer, nn.Conv2d):
                # Keras: (height, width, in, out), of a depthwise convolution (height, width, channels, 1).
                layer.weight.copy_(tensors[0].permute((3, 2, 0, 1) if layer.groups == 1 else (2, 3, 0, 1)))
            else:
                places = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
                for place, tensor in zip(places, tensors, strict=True):
                    place.copy_(tensor)


def library(alpha: float) -> str:
    """Source of the MobileNetV2 that `build` returns."""
    if find_spec("timm") is not None and find_spec("torchvision") is not None and alpha in (0.35, 0.5, 0.75, 1.0, 1.4):
        return "timm"
    return "plain"


def build(alpha: float, classes: int, head_units: int | None, thawed: int, batch_norm: str):
    """The network with the head and the top `thawed` blocks trainable: frozen part and trained part."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if library(alpha) == "timm":
        import timm

        model = timm.create_model(f"mobilenetv2_{round(alpha * 100):03d}", pretrained=False)
        stages = [list(stage) for stage in model.blocks]
        blocks = [nn.Sequential(model.conv_stem, model.bn1, *stages[0])]
        blocks += [nn.Sequential(*stage) for stage in stages[1:-1]]
        blocks.append(nn.Sequential(*stages[-1], model.conv_head, model.bn2))
        width = model.num_features
    else:
        blocks, width = mobilenet(alpha)
    return cut_network(blocks, build_head(width, head_units, 0.3, classes), thawed, batch_norm)


def build_head(width: int, units: int | None, dropout: float, classes: int):
    """The head: average pooling, Linear with ReLU if `units` is given, dropout, Linear."""
    from torch import nn

    hidden = [nn.Linear(width, units), nn.ReLU()] if units else []
    layers = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *hidden, nn.Dropout(dropout), nn.Linear(units or width, classes)]
    for layer in layers:
        if isinstance(layer, nn.Linear):  # as Keras's Dense
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def cut_network(blocks: list, head, thawed: int, batch_norm: str):
    """The frozen part of a network, and the trained part: the head and the top `thawed` blocks."""
    from torch import nn

    cut = len(blocks) - thawed
    frozen, trained = nn.Sequential(*blocks[:cut]), nn.Sequential(*blocks[cut:], head)
    trained.requires_grad_(True)
    frozen.requires_grad_(False)
    frozen.train(False)
    trained.train()
    if batch_norm == "inference":
        for layer in trained.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.train(False)
    return frozen, trained


class Trainer:
    """One phase: steps over uint8 images on the device."""

    def __init__(
        self,
        parts,
        image_size: int,
        learning_rate: float,
        *,
        flip: bool = False,
        shift: int = 0,
        mixup: float = 0.0,
        smoothing: float = 0.0,
        average: float = 0.0,
        device: str = "cpu",
        compiled: bool = False,
    ) -> None:
        """Get ready to train.

        Args:
            parts: of `cut_network`.
            learning_rate: of Adam; a caller may change it between steps.
            flip: mirror half of the images.
            shift: largest shift in each direction, in pixels.
            mixup: alpha of mixed images; 0 never mixes.
            smoothing: share of each label that is spread over all classes.
            average: momentum of a moving average of the weights, which is validated instead of them; 0: none.
        """
        import torch

        self.torch, self.size, self.device = torch, image_size, device
        self.flip, self.shift, self.mixup, self.smoothing = flip, shift, mixup, smoothing
        self.frozen, self.trained = (part.to(device, memory_format=torch.channels_last) for part in parts)
        self.optimizer = torch.optim.Adam(self.trained.parameters(), learning_rate, eps=1e-7, fused=True)
        self.average = None
        if average:
            from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

            self.average = AveragedModel(self.trained, multi_avg_fn=get_ema_multi_avg_fn(average))
        self.validated = self.average.module if self.average else self.trained
        self.run_frozen, self.run_trained = self.frozen, self.trained
        if compiled:
            self.run_frozen, self.run_trained = torch.compile(self.frozen), torch.compile(self.trained)

    def _augmented(self, x):
        """uint8 images (n, 3, 32, 32), mirrored and shifted at random."""
        torch = self.torch
        if self.flip:
            flips = torch.rand(len(x), device=x.device) < 0.5
            x = torch.where(flips[:, None, None, None], x.flip(3), x)
        if self.shift:
            # By whole pixels, one shift for each image.
            shifts = torch.randint(-self.shift, self.shift + 1, (2, len(x), 1), device=x.device)
            places = torch.arange(32, device=x.device)
            rows, columns = ((places + shift).clamp(0, 31) for shift in shifts)
            number = torch.arange(len(x), device=x.device)[:, None, None]
            x = x.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        return x

    def _logits(self, x, trained):
        """Logits of images (n, 3, 32, 32) with pixels of 0 to 255, by a trained part."""
        torch = self.torch
        x = torch.nn.functional.interpolate(x.float(), size=(self.size, self.size), mode="bilinear")
        x = x.div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device == "cuda"):
            with torch.no_grad():
                x = self.run_frozen(x)
            return trained(x).float()

    def step(self, images, labels) -> None:
        """One step of Adam on uint8 images (n, 32, 32, 3)."""
        x, share, others = self._augmented(images.permute(0, 3, 1, 2)).float(), 1.0, labels
        if self.mixup:
            share = float(self.torch.distributions.Beta(self.mixup, self.mixup).sample())
            order = self.torch.randperm(len(x), device=x.device)
            x, others = share * x + (1 - share) * x[order], labels[order]
        logits, entropy = self._logits(x, self.run_trained), self.torch.nn.functional.cross_entropy
        loss = share * entropy(logits, labels, label_smoothing=self.smoothing)
        if self.mixup:
            loss = loss + (1 - share) * entropy(logits, others, label_smoothing=self.smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.trained)

    def epoch(self, images, labels, batch_size: int, rates: Iterable[float] | None = None) -> None:
        """Steps over all images in random order, without a last short batch.

        Args:
            rates: learning rate of each step; None leaves the optimizer's.
        """
        order = self.torch.randperm(len(images), device=images.device)
        batches = order[: len(order) // batch_size * batch_size].split(batch_size)
        for rows, rate in zip(batches, [None] * len(batches) if rates is None else rates, strict=True):
            if rate is not None:
                self.optimizer.param_groups[0]["lr"] = rate
            self.step(images[rows], labels[rows])

    def validate(self, images, labels, batch_size: int) -> float:
        """Accuracy on uint8 images (n, 32, 32, 3)."""
        modes = {module: module.training for module in self.validated.modules()}
        self.validated.train(False)
        right = 0
        with self.torch.no_grad():
            for x, targets in zip(images.split(batch_size), labels.split(batch_size), strict=True):
                right += int((self._logits(x.permute(0, 3, 1, 2), self.validated).argmax(1) == targets).sum())
        for module, mode in modes.items():
            module.training = mode
        return right / len(images)

    def wait(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()


def use_cores(device: str) -> None:
    import torch

    from thaw.network.backend import cores

    if device == "cpu":
        torch.set_num_threads(cores())


def phases(
    images: np.ndarray,
    labels: np.ndarray,
    val_images: np.ndarray,
    val_labels: np.ndarray,
    *,
    image_size: int,
    alpha: float,
    batch_size: int,
    phases: list[tuple[str, int, int]],
    learning_rate: float,
    augment: bool,
    head_units: int | None,
    batch_norm: str,
) -> dict[str, float]:
    """Seconds of each phase, validation after each epoch included.

    Args:
        images, val_images: uint8 (n, 32, 32, 3).
        labels, val_labels: integers (n,).
        phases: name, number of trainable blocks, epochs.
    """
    import torch

    use_cores("cpu")
    train = torch.from_numpy(np.array(images)), torch.from_numpy(np.array(labels, np.int64))
    val = torch.from_numpy(np.array(val_images)), torch.from_numpy(np.array(val_labels, np.int64))
    classes, seconds = int(train[1].max()) + 1, {}
    for name, thawed, epochs in phases:
        started = time.perf_counter()
        network = build(alpha, classes, head_units, thawed, batch_norm)
        trainer = Trainer(network, image_size, learning_rate, flip=augment, shift=3 if augment else 0)
        for _ in range(epochs):
            trainer.epoch(*train, batch_size)
            trainer.validate(*val, batch_size)
        seconds[name] = time.perf_counter() - started
    return seconds


def _torchvision(name: str, classes: int):
    """A network of torchvision's, all layers trainable, BatchNorm in inference mode."""
    import torch
    import torchvision
    from torch import nn

    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(num_classes=classes)
    model.train(False)
    return nn.Sequential(), model


def rate(
    image_size: int,
    alpha: float,
    batch_size: int,
    batch_norm: str,
    *,
    name: str = "mobilenetv2",
    steps: int = 20,
    device: str = "cpu",
    compiled: bool = False,
) -> float:
    """Images per second of training all layers, without augmentation, after 5 steps of warm-up."""
    import torch

    use_cores(device)
    network = _torchvision(name, 10) if name != "mobilenetv2" else build(alpha, 10, 256, len(_GROUPS), batch_norm)
    trainer = Trainer(network, image_size, 1e-3, device=device, compiled=compiled)
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8)).to(device)
    labels = torch.from_numpy(generator.integers(0, 10, batch_size)).to(device)
    for _ in range(5):
        trainer.step(images, labels)
    trainer.wait()
    started = time.perf_counter()
    for _ in range(steps):
        trainer.step(images, labels)
    trainer.wait()
    return steps * batch_size / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description="training speed of MobileNetV2 in PyTorch, all layers trainable")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--alpha", type=float, default=0.35)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batch-norm", choices=("inference", "train"), default="inference")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    measured = rate(
        arguments.image_size, arguments.alpha, arguments.batch_size, arguments.batch_norm, steps=arguments.steps
    )
    print(json.dumps({"model": library(arguments.alpha), "images_per_second": measured}))


if __name__ == "__main__":
    main()
