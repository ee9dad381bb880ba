"""PyTorch's side of the benchmarks, for speed only: MobileNetV2 with random weights. Start at `build`.

The model is timm's where it is installed, else the plain one below with keras.applications' layers. Frozen layers run
under no_grad without gradients; augmentation and resizing run batch by batch on the device, as a careful user does it.
"""

import argparse
import json
import time
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
        layers = [nn.Conv2d(start, end, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(end)]
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
    hidden = [nn.Linear(width, head_units), nn.ReLU()] if head_units else []
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), *hidden, nn.Dropout(0.3), nn.Linear(head_units or width, classes)
    )
    cut = len(blocks) - thawed
    frozen, trained = nn.Sequential(*blocks[:cut]), nn.Sequential(*blocks[cut:], head)
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
        self, parts, image_size: int, learning_rate: float, augment: bool, device: str, compiled: bool
    ) -> None:
        import torch

        self.torch, self.size, self.augment, self.device = torch, image_size, augment, device
        self.frozen, self.trained = (part.to(device, memory_format=torch.channels_last) for part in parts)
        self.optimizer = torch.optim.Adam(self.trained.parameters(), learning_rate)
        self.run_frozen, self.run_trained = self.frozen, self.trained
        if compiled:
            self.run_frozen, self.run_trained = torch.compile(self.frozen), torch.compile(self.trained)

    def _inputs(self, images, augment: bool):
        torch = self.torch
        x = images.permute(0, 3, 1, 2)  # channels last in memory
        if augment:
            flips = torch.rand(len(x), device=x.device) < 0.5
            x = torch.where(flips[:, None, None, None], x.flip(3), x)
            # By whole pixels, one shift for each image.
            shifts = torch.randint(-3, 4, (2, len(x), 1), device=x.device)
            places = torch.arange(32, device=x.device)
            rows, columns = ((places + shift).clamp(0, 31) for shift in shifts)
            number = torch.arange(len(x), device=x.device)[:, None, None]
            x = x.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        x = torch.nn.functional.interpolate(x.float(), size=(self.size, self.size), mode="bilinear")
        return x.div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)

    def _logits(self, images, augment: bool):
        torch = self.torch
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device == "cuda"):
            with torch.no_grad():
                x = self.run_frozen(self._inputs(images, augment))
            return self.run_trained(x).float()

    def step(self, images, labels) -> None:
        loss = self.torch.nn.functional.cross_entropy(self._logits(images, self.augment), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def epoch(self, images, labels, batch_size: int) -> None:
        order = self.torch.randperm(len(images), device=images.device)
        for start in range(0, len(order) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            self.step(images[rows], labels[rows])

    def validate(self, images, labels, batch_size: int) -> float:
        modes = {module: module.training for module in self.trained.modules()}
        self.trained.train(False)
        right = 0
        with self.torch.no_grad():
            for start in range(0, len(images), batch_size):
                rows = slice(start, start + batch_size)
                right += int((self._logits(images[rows], False).argmax(1) == labels[rows]).sum())
        for module, mode in modes.items():
            module.training = mode
        return right / len(images)

    def wait(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()


def _start(device: str) -> None:
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

    _start("cpu")
    train = torch.from_numpy(np.array(images)), torch.from_numpy(np.array(labels, np.int64))
    val = torch.from_numpy(np.array(val_images)), torch.from_numpy(np.array(val_labels, np.int64))
    classes, seconds = int(train[1].max()) + 1, {}
    for name, thawed, epochs in phases:
        started = time.perf_counter()
        parts = build(alpha, classes, head_units, thawed, batch_norm)
        trainer = Trainer(parts, image_size, learning_rate, augment, "cpu", compiled=False)
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

    _start(device)
    parts = _torchvision(name, 10) if name != "mobilenetv2" else build(alpha, 10, 256, len(_GROUPS), batch_norm)
    trainer = Trainer(parts, image_size, 1e-3, False, device, compiled)
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
