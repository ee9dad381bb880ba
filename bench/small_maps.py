"""Training steps with and without the gradient of `thaw/network/convolution.py`, in turn. Start at `main`.

    python -m bench.small_maps

Images or activations and weights are random; Adam, no augmentation. Milliseconds per step of one epoch after a warm-up,
each in a separate process.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from bench import common
from bench.steps import epoch_seconds, use_tensorflow

# Backbone, side of the images in pixels, and depth; None: all from images. Those whose maps become small, and those
# whose kernels are mostly 1x1.
CASES: list[tuple[str, int, int | None]] = [
    ("vgg16", 32, 1), ("vgg16", 32, 2), ("vgg16", 32, None), ("cnn", 32, None), ("resnet18", 64, None),
    ("mobilenetv2", 160, 3), ("mobilenetv2", 128, None), ("resnet50v15", 64, 1),
]  # fmt: skip
SIDES = ("backend", "thaw")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="the gradient of kernels over small maps, and of 1x1 kernels, and the backend's own"
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("bench/results/small_maps.json"))
    parser.add_argument("--one", nargs=2, metavar=("CASE", "SIDE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        case, side = CASES[int(arguments.one[0])], arguments.one[1]
        print(json.dumps(milliseconds(*case, side, arguments.batch_size, arguments.steps)))
        return
    same = ("--batch-size", arguments.batch_size, "--steps", arguments.steps)
    times: dict[str, dict[str, list[float]]] = {title(*case): {side: [] for side in SIDES} for case in CASES}
    for _ in range(arguments.runs):
        for number, case in enumerate(CASES):
            for side in SIDES:
                taken = common.apart("bench.small_maps", *same, "--one", number, side)
                times[title(*case)][side].append(taken)
    settings = {name: value for name, value in vars(arguments).items() if name not in ("output", "one")}
    content = {"machine": common.machine("keras", "tensorflow", "numpy"), "settings": settings, "milliseconds": times}
    common.write(arguments.output, content)
    print(table(times))


def title(backbone: str, image_size: int, depth: int | None) -> str:
    """A case in words."""
    return f"{backbone}, {image_size} px, {'all blocks' if depth is None else f'depth {depth}'}"


def milliseconds(backbone: str, image_size: int, depth: int | None, side: str, batch_size: int, steps: int) -> float:
    """A step of the fastest of four epochs: other work on a machine only adds to the time."""
    use_tensorflow()
    if side == "backend":
        from thaw.network import convolution

        convolution.by_products = lambda *_: False
    alpha, batch_norm = (0.35, "train") if backbone == "mobilenetv2" else (None, "inference")
    seconds = epoch_seconds(backbone, image_size, alpha, depth, batch_norm, batch_size, steps, epochs=5)
    return 1e3 * min(seconds[1:]) / steps


def table(times: dict[str, dict[str, list[float]]]) -> str:
    """The times in Markdown, and the ratios of pairs."""
    lines = ["| trained | backend, ms a step | thaw, ms a step | thaw / backend (range) |", "|---|---|---|---|"]
    for name, sides in times.items():
        cells: list[Any] = [", ".join(f"{value:.0f}" for value in sides[side]) for side in SIDES]
        ratios = [thaw / backend for backend, thaw in zip(*(sides[side] for side in SIDES), strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {spread} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
