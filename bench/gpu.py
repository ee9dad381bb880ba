"""thaw on a GPU: extraction, training at each depth, share of the matrix peak, PyTorch, the whole schedule.

    python -m bench.gpu                            # TensorFlow
    KERAS_BACKEND=jax python -m bench.gpu --whole  # JAX, and the whole schedule on data/processed

For ResNet50, VGG16 and MobileNetV2 (alpha 1), with random weights, at 224 and 96 pixels: images per
second of extraction from uint8 images, and of training with each number of trainable blocks, from
activations stored at the cut (all blocks: from images, augmented). The share of the peak is what the
convolutions and dense layers must compute (forward once, backward twice for trainable layers) over the
rate of a large bfloat16 matrix product measured in the same run. PyTorch (bfloat16 autocast,
channels_last, torch.compile) trains all layers, where torch is installed; ResNet50 and
VGG16 are torchvision's. Where there is no GPU, nothing is measured and the table says so; --tiny goes
through all of it at toy sizes, to test this script.
"""

import argparse
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import common, torch_peer
from thaw.stage import composed_params

NAMES = ("resnet50", "vgg16", "mobilenetv2")
NOT_MEASURED = "not measured"


def main() -> None:
    parser = argparse.ArgumentParser(description="speed of thaw on a GPU")
    parser.add_argument("--tiny", action="store_true", help="toy sizes on whatever there is: tests the script")
    parser.add_argument("--whole", action="store_true", help="also the default schedule on data/processed, in seconds")
    parser.add_argument("--output", type=Path, default=Path("bench/results/gpu.json"))
    arguments = parser.parse_args()
    from thaw.config.schema import Device
    from thaw.network.backend import use_backend

    auto = Device(xla="auto", precision="auto")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    device = use_backend(backend, auto)
    print(device, flush=True)
    result: dict[str, Any] = {
        "machine": common.machine("keras", backend, "torch"),
        "device": str(device),
        "tiny": arguments.tiny,
    }
    measures = arguments.tiny or device.kind == "gpu"
    sizes = (32,) if arguments.tiny else (224, 96)
    batch = 8 if arguments.tiny else 256
    result["peak_tflops"] = peak(256 if arguments.tiny else 8192, backend) if measures else None
    result["rows"] = []
    for name in NAMES:
        for size in sizes:
            row = {"backbone": name, "image_size": size}
            if measures:
                row |= measure(name, size, batch, 2 if arguments.tiny else 30, result["peak_tflops"])
                row["pytorch"] = _pytorch(name, size, batch, device.kind)
                print(row, flush=True)
            result["rows"].append(row)
    if arguments.whole and measures:
        result["whole"] = {name: whole(name, arguments.tiny) for name in NAMES}
    common.write(arguments.output, result)
    print(table(result))


def peak(size: int, backend: str) -> float:
    """TFLOP/s of a product of two bfloat16 matrices of this size, the best of 5 runs of 20 in a row."""
    import keras

    def chain(a, b):
        for _ in range(20):
            a = keras.ops.matmul(a, b)
        return a

    if backend == "jax":
        import jax

        compiled = jax.jit(chain)
    else:
        import tensorflow as tf

        compiled = tf.function(chain)
    generator = np.random.default_rng(0)
    # Rows that sum to about 1 in size, so that 20 products neither vanish nor overflow.
    a, b = (
        keras.ops.cast(generator.normal(size=(size, size)).astype("float32") / math.sqrt(size), "bfloat16")
        for _ in range(2)
    )
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        # The sum brings the result to the host: the clock is not to stop before the device has.
        float(keras.ops.sum(keras.ops.cast(compiled(a, b)[:8, :8], "float32")))
        seconds.append(time.perf_counter() - started)
    return 20 * 2 * size**3 / min(seconds[1:]) / 1e12


def flops(model) -> float:
    """Operations per image, forward, of the convolutions and dense layers of a model; a sum of products counts 2."""
    import keras

    total = 0.0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            total += 2 * math.prod(layer.output.shape[1:]) * math.prod(layer.kernel.shape[:2])
        elif isinstance(layer, keras.layers.Conv2D):
            total += 2 * math.prod(layer.output.shape[1:]) * math.prod(layer.kernel.shape[:3])
        elif isinstance(layer, keras.layers.Dense):
            total += 2 * math.prod(layer.kernel.shape)
    return total


def measure(name: str, size: int, batch: int, steps: int, peak_tflops: float) -> dict[str, Any]:
    """Images per second of extraction and of training at each depth, with their shares of the peak."""
    import keras

    from thaw.backbones import BACKBONES
    from thaw.config.schema import Augment
    from thaw.data.examples import Examples
    from thaw.extraction.store import storing
    from thaw.network.augmentation import augmentation_inputs
    from thaw.network.build import build_network
    from thaw.network.inference import predict_chunks
    from thaw.network.seeds import seed_initialisers
    from thaw.training.adam import Adam
    from thaw.training.feed import BatchPlan, Feed

    seed_initialisers(0, "bench")
    built = build_network(name, size, 1.0 if name == "mobilenetv2" else None, 32)
    built.attach("avg", 256, 0.3, 10)
    augment = Augment(
        name="standard", flip=True, translation=0.1, rotation=0.0, zoom=0.0, contrast=0.0, views=1, seed=0
    )
    generator = np.random.default_rng(0)
    count = batch * steps
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = generator.integers(0, 10, count)
    forward = [flops(block) for block in built.blocks]
    head = flops(built.head)

    def share(rate: float, operations: float) -> float:
        return rate * operations / (peak_tflops * 1e12)

    model = storing(built.features([0, 1, 2], "avg", augment), "float16")
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        for _ in predict_chunks(model, augmentation_inputs(images, augment, view=1), batch):
            pass
        seconds.append(time.perf_counter() - started)
    rate = count / min(seconds[1:])
    row: dict[str, Any] = {"extract": {"images_per_second": rate, "share": share(rate, sum(forward))}, "train": {}}
    for depth in range(len(built.blocks) + 1):
        built.freeze(sum(row_count for _, row_count in BACKBONES[name].blocks[: len(built.blocks) - depth]))
        everything = depth == len(built.blocks)
        if everything:
            inputs, start = images, None
        else:
            shape = built.head.input.shape[1:] if depth == 0 else built.blocks[-depth].input.shape[1:]
            # No more rows than fit: they are read repeatedly.
            rows = min(count, max(batch, int(2e9 / (2 * math.prod(shape)))))
            inputs, start = generator.normal(size=(rows, *shape)).astype(np.float16), depth
        examples = Examples(inputs, labels[: len(inputs)])
        feed = Feed(built.classifier(start, augment), examples, batch, mixes=not everything)
        feed.compile(Adam(1e-4))
        plan = BatchPlan.draw(len(examples), batch, 0.0 if everything else 0.2, 0)
        seconds = []
        for _ in range(4):
            started = time.perf_counter()
            feed.fit(examples, plan)
            seconds.append(time.perf_counter() - started)
        rate = plan.rows.size / min(seconds[1:])
        thawed = sum(forward[len(forward) - depth :]) + head
        row["train"][depth] = {"images_per_second": rate, "share": share(rate, 3 * thawed)}
        keras.backend.clear_session()
    return row


def _pytorch(name: str, size: int, batch: int, kind: str) -> dict[str, float] | None:
    if not torch_peer.available() or not torch_peer.has(name):
        return None
    options = {"device": "cuda", "compiled": True} if kind == "gpu" else {"steps": 2}
    return {"train": torch_peer.rate(size, 1.0, batch, "inference", name=name, **options)}


def whole(name: str, tiny: bool) -> dict[str, Any]:
    """Seconds from images to the end of the default schedule, and the validation accuracy there."""
    from bench import schedule
    from thaw.backbones import BACKBONES
    from thaw.data.examples import Examples
    from thaw.data.splits import class_names, read_split
    from thaw.network.cut import frozen_layers

    overrides = [f"backbone={name}", "backbone.weights=none", f"backbone.image_size={32 if tiny else 96}"]
    params = composed_params(overrides)
    if tiny:
        once = {"epochs": 1, "warmup_epochs": 0.0}
        phases = {key: phase.model_copy(update=once) for key, phase in params.schedule.phases.items()}
        params = params.model_copy(
            update={
                "head": params.head.model_copy(update=once),
                "schedule": params.schedule.model_copy(update={"phases": phases}),
                "batch_size": 16,
                "augment": params.augment.model_copy(update={"views": 1}),
            }
        )
    classes = class_names(None)
    train, val = (Examples(*read_split(split, classes)) for split in ("train", "val"))
    phases = [("head", params.head, sum(count for _, count in BACKBONES[name].blocks))]
    phases += [(key, phase, frozen_layers(phase, name)) for key, phase in params.schedule.phases.items()]
    result = schedule.run_thaw(params, phases, train, val, classes, params.seed)
    return {
        "seconds": sum(result["seconds"].values()),
        "phases": result["seconds"],
        "images": len(train),
        "val_accuracy": result["final"],
    }


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "| backbone, pixels | extraction | " + " | ".join(f"depth {depth}" for depth in range(8)) + " | PyTorch, all |",
        "|" + "---|" * 11,
    ]
    for row in result["rows"]:
        cells = [_cell(row["extract"]) if "extract" in row else NOT_MEASURED]
        cells += [_cell(row["train"].get(depth)) if "train" in row else NOT_MEASURED for depth in range(8)]
        peer = row.get("pytorch")
        cells.append(f"{peer['train']:,.0f}" if peer else NOT_MEASURED)
        lines.append(f"| {row['backbone']}, {row['image_size']} | {' | '.join(cells)} |")
    rate = result["peak_tflops"]
    measured = NOT_MEASURED if rate is None else f"{rate:,.1f} TFLOP/s"
    lines += ["", f"Images per second, and their share of the bfloat16 matrix peak ({measured}). {result['device']}."]
    for name, run in result.get("whole", {}).items():
        lines.append(f"{name}, whole schedule, {run['images']:,} images: {run['seconds']:.1f} s")
    return "\n".join(lines)


def _cell(measured: dict[str, float] | None) -> str:
    return "" if measured is None else f"{measured['images_per_second']:,.0f} ({measured['share']:.1%})"


if __name__ == "__main__":
    main()
