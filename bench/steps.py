"""Training steps of MobileNetV2 with all layers trainable: thaw and PyTorch in turn on one device. Start at `rate`.

    python -m bench.steps

Random images and weights, Adam, no augmentation on either side. Images per second of 40 steps after a warm-up, each run
in a separate process, with BatchNorm in inference mode and in training mode.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from bench import common, torch_peer

MODES = ("inference", "train")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="thaw against PyTorch, all layers trainable", epilog="python -m bench.steps"
    )
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--alpha", type=float, default=0.35)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("bench/results/steps.json"))
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mode:
        sizes = (arguments.image_size, arguments.alpha, arguments.batch_size)
        print(json.dumps({"images_per_second": rate(*sizes, arguments.mode, arguments.steps)}))
        return
    rates: dict[str, dict[str, list[float]]] = {mode: {"thaw": [], "pytorch": []} for mode in MODES}
    same = [
        part for name in ("image_size", "alpha", "batch_size", "steps")
        for part in (f"--{name.replace('_', '-')}", getattr(arguments, name))
    ]  # fmt: skip
    for _ in range(arguments.runs):
        for mode, sides in rates.items():
            sides["thaw"].append(common.apart("bench.steps", "--mode", mode, *same)["images_per_second"])
            if torch_peer.available():
                peer = common.apart("bench.torch_peer", "--batch-norm", mode, *same)
                sides["pytorch"].append(peer["images_per_second"])
    settings = {name: value for name, value in vars(arguments).items() if name not in ("output", "mode")}
    machine = common.machine("keras", "tensorflow", "numpy", "torch")
    peer = torch_peer.library(arguments.alpha)
    common.write(arguments.output, {"machine": machine, "settings": settings, "peer": peer, "rates": rates})
    print(table(rates))


def rate(image_size: int, alpha: float, batch_size: int, batch_norm: str, steps: int) -> float:
    """Images per second of thaw."""
    use_tensorflow()
    _, seconds = epoch_seconds("mobilenetv2", image_size, alpha, None, batch_norm, batch_size, steps, epochs=2)
    return batch_size * steps / seconds


def use_tensorflow() -> None:
    """Compute as stages do, before anything imports Keras."""
    from thaw.config.schema import Device
    from thaw.network.backend import use_backend

    use_backend("tensorflow", Device(xla="auto", precision="float32"))


def epoch_seconds(
    backbone: str,
    image_size: int,
    alpha: float | None,
    depth: int | None,
    batch_norm: str,
    batch_size: int,
    steps: int,
    epochs: int,
) -> list[float]:
    """Seconds of each epoch of a backbone with a head, the first with all that comes before the first step.

    Args:
        depth: the blocks to train, of stored activations; None trains all, of images.
        batch_norm: mode of BatchNorm, inference or train.
    """
    import time

    import numpy as np

    from thaw.data.examples import Examples
    from thaw.network.build import build_network
    from thaw.network.seeds import seed_initialisers
    from thaw.training.adam import Adam
    from thaw.training.feed import BatchPlan, Feed

    seed_initialisers(0, "bench")
    built = build_network(backbone, image_size, alpha, 32)
    built.attach("avg", 256, 0.3, 10)
    built.freeze_below(len(built.blocks) if depth is None else depth)
    model = built.classifier(depth, None, batch_norm)
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, 256, (batch_size * steps, *model.input.shape[1:]), dtype=np.uint8)
    if depth is not None:
        inputs = inputs.astype(np.float16)
    examples = Examples(inputs, generator.integers(0, 10, len(inputs)))
    feed = Feed(model, examples, batch_size, mixes=False)
    feed.compile(Adam(1e-3))
    seconds = []
    for epoch in range(epochs):
        started = time.perf_counter()
        feed.fit(examples, BatchPlan.draw(len(examples), batch_size, 0.0, epoch))
        seconds.append(time.perf_counter() - started)
    return seconds


def table(rates: dict[str, dict[str, list[float]]]) -> str:
    """The rates in Markdown."""
    lines = ["| BatchNorm | thaw, images/s | PyTorch, images/s | thaw / PyTorch (range) |", "|---|---|---|---|"]
    for mode, sides in rates.items():
        cells: list[Any] = [", ".join(f"{value:.0f}" for value in sides[side]) for side in ("thaw", "pytorch")]
        ratios = [a / b for a, b in zip(sides["thaw"], sides["pytorch"], strict=False)]
        last = f"{statistics.mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "not measured"
        lines.append(f"| {mode} | {cells[0]} | {cells[1] or 'not measured'} | {last} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
