"""Images a second that a phase trains on one device and on several, and how far their weights are apart.

    python -m bench.replicas                           # 1 and 2 devices, those of a CPU where there is no GPU
    python -m bench.replicas --replicas 1 2 4 --steps 200

The phase is all of MobileNetV2, alpha 0.35, at 96 pixels, from random images, with random weights. Devices that a CPU
is divided into share its cores: their figures show that the count changes no result, not that it is faster. Each run
is in a fresh process.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import common


def main() -> None:
    parser = argparse.ArgumentParser(description="a phase on several devices")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--output", type=Path, default=Path("bench/results/replicas.json"))
    parser.add_argument("--one", type=int, metavar="REPLICAS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(arguments.one, arguments.steps, arguments.batch_size)))
        return
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(max(arguments.replicas)))
    runs = []
    for replicas in arguments.replicas:
        words = "--one", replicas, "--steps", arguments.steps, "--batch-size", arguments.batch_size
        runs.append(common.apart("bench.replicas", *words))
    common.write(arguments.output, {"machine": common.machine("keras", "jax", "numpy"), "runs": runs})
    print(table(runs))


def run(replicas: int, steps: int, batch_size: int) -> dict[str, Any]:
    """Images a second without the first epoch, which compiles; losses; and a sample of the weights."""
    from thaw.config.schema import Device
    from thaw.network.backend import active_device, use_backend
    from thaw.network.replicas import use_replicas

    use_backend("jax", Device(xla="auto", precision="float32"))
    use_replicas(replicas, batch_size)

    from thaw.data.examples import Examples
    from thaw.network.build import build_network
    from thaw.network.seeds import seed_initialisers
    from thaw.training.adam import Adam
    from thaw.training.feed import BatchPlan, Feed

    count = steps * batch_size
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 32, 32, 3), np.uint8)
    examples = Examples(images, generator.integers(0, 10, count))
    seed_initialisers(0)
    network = build_network("mobilenetv2", 96, 0.35, 32)
    network.attach("avg", None, 0.2, 10)
    network.freeze(0)
    feed = Feed(network.classifier(), examples, batch_size, mixes=False)
    feed.compile(Adam(1e-4))
    losses, seconds = [], []
    for epoch in range(3):
        started = time.perf_counter()
        losses.append(feed.fit(examples, BatchPlan.draw(count, batch_size, 0.0, epoch))["loss"])
        seconds.append(time.perf_counter() - started)
    kernel = network.head.get_layer("logits").kernel.numpy()
    return {
        "replicas": replicas,
        "device": f"{active_device().kind} ({active_device().name})",
        "images_per_second": round(2 * count / sum(seconds[1:]), 1),
        "losses": losses,
        "weights": kernel.ravel()[:100].tolist(),
    }


def table(runs: list[dict[str, Any]]) -> str:
    """The runs in Markdown; of each the largest difference of loss and of weights from the first one."""
    lines = ["| replicas | device | images/s | loss apart | weights apart |", "|---|---|---|---|---|"]
    for row in runs:
        apart = [np.abs(np.subtract(row[key], runs[0][key])).max() for key in ("losses", "weights")]
        numbers = f"{row['images_per_second']:,} | {apart[0]:.1e} | {apart[1]:.1e}"
        lines.append(f"| {row['replicas']} | {row['device']} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
