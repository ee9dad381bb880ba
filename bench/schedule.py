"""Comparison of the phases that have a stored cut with training as in notebooks: seconds from images. Start at `run`.

    python -m bench.schedule
    python -m bench.schedule --rates 0.001 0.002 0.004     # each side with the one that suits it best
    python -m bench.schedule backbone=vgg16 backbone.weights=none

All sides train the head, then the phases of the schedule that have a stored cut, on data/processed
(`dvc repro preprocess` makes it) with the parameters of params.yaml or, with overrides as `-S` takes them,
of conf/: the same images, epochs, learning rates, optimizer, batch size, augmentation family, BatchNorm
mode, threads, and no XLA on a CPU.

- notebook: one Keras model; `fit` over the images, through the whole network in each epoch, with a
  compiled and prefetched input pipeline, augmentation drawn anew on the device, Keras's Adam and averages of weights
  (bench/notebook.py); moments start at zero in each phase, as on all sides here;
- thaw: one extraction of all cuts, then each phase from the activations stored at its cut;
- pytorch, for speed alone, where torch is installed: MobileNetV2 with random weights in channels_last,
  through the whole network as the notebook does (see bench/torch_peer.py); on the first seed alone.

`--rates` first runs each side with each of them in all phases but the head's, on a seed that is not measured, and gives
each the rate of its highest validation accuracy.

Sides alternate, each run in a separate process. Seconds are from the images in memory to the end of
the last phase, tracing and validation of each epoch included, imports and building the network excluded.
A side's accuracy in a phase is that of its best epoch.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import common
from thaw.stage import composed_params

SIDES = ("notebook", "thaw", "pytorch")


def main() -> None:
    parser = argparse.ArgumentParser(description="thaw against fit() over images, side by side")
    parser.add_argument("overrides", nargs="*", help="as `dvc exp run -S` takes them; none: params.yaml as it is")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each side (default 3)")
    parser.add_argument("--rates", type=float, nargs="+", default=[], help="try these first; the best for each side")
    parser.add_argument("--output", type=Path, default=Path("bench/results/schedule.json"))
    parser.add_argument("--no-pytorch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(run(arguments.side, arguments.seed, arguments.rate, arguments.overrides)))
        return

    def apart(side: str, seed: int, rate: float | None) -> dict[str, Any]:
        options = ["--side", side, "--seed", seed, *(["--rate", rate] if rate else [])]
        done = common.apart("bench.schedule", *options, *arguments.overrides)
        print(_line(done), flush=True)
        return done

    params = composed_params(arguments.overrides)
    sides = [side for side in SIDES if side != "pytorch" or (_has_torch(params) and not arguments.no_pytorch)]
    search: dict[str, dict[float, float]] = {}
    for rate in arguments.rates:
        for side in ("notebook", "thaw"):
            search.setdefault(side, {})[rate] = apart(side, arguments.seeds, rate)["final"]
    if search:
        print(f"validation accuracy by learning rate: {search}", flush=True)
    best = {side: max(rates, key=rates.get) for side, rates in search.items()}
    runs = []
    for seed in range(arguments.seeds):
        # The order alternates: a machine that slows down slows all sides.
        for side in sides if seed % 2 == 0 else reversed(sides):
            if side == "pytorch" and seed > 0:
                continue  # it takes longest, and its speed does not depend on the seed
            runs.append(apart(side, seed, best.get(side)))
    result = {
        "machine": common.machine("keras", "tensorflow", "numpy", "torch"),
        "settings": common.settings(params),
        "search": search,
        "runs": runs,
        "summary": summary(runs),
    }
    common.write(arguments.output, result)
    print(table(result["summary"]))


def _has_torch(params) -> bool:
    from bench import torch_peer

    return params.backbone.name == "mobilenetv2" and torch_peer.available()


def run(side: str, seed: int, rate: float | None, overrides: list[str]) -> dict[str, Any]:
    """One run of one side, all phases but the head at `rate` if there is one: seconds, accuracy, peak memory."""
    from thaw.backbones import BACKBONES
    from thaw.data.splits import class_names, read_split
    from thaw.network.backend import use_backend
    from thaw.network.cut import frozen_layers

    params = composed_params(overrides)
    if side != "pytorch":
        use_backend(params.backend, params.device, params.run.data_gb)
    from thaw.data.examples import Examples
    from thaw.runtime.memory import PeakMemory

    classes = class_names(params.dataset.classes)
    train, val = (Examples(*read_split(split, classes)) for split in ("train", "val"))
    blocks = BACKBONES[params.backbone.name].blocks
    phases: list[tuple[str, Any, int]] = [("head", params.head, sum(count for _, count in blocks))]
    for name, phase in params.schedule.phases.items():
        frozen = frozen_layers(phase, params.backbone.name)
        if phase.depth in params.extract.cuts_by_view(1)[0]:
            phases.append((name, phase, frozen))
    change = {"learning_rate": rate} if rate else {}
    phases[1:] = [(name, phase.model_copy(update=change), frozen) for name, phase, frozen in phases[1:]]
    with PeakMemory() as memory:
        result = _SIDES[side](params, phases, train, val, classes, seed)
    total = sum(result["seconds"].values())
    return {
        "side": side,
        "seed": seed,
        "rate": rate,
        **result,
        "seconds": {name: round(value, 2) for name, value in result["seconds"].items()},
        "total": round(total, 2),
        "epochs": {name: phase.epochs for name, phase, _ in phases},
        "images": len(train),
        "peak_gb": round(memory.gb, 2),
    }


def start(params, classes: list[str], seed: int):
    """The network that each side starts from."""
    from thaw.network.seeds import seed_initialisers
    from thaw.network.weights import load_backbone

    network = load_backbone(params.backbone, seed, params.dataset.image_size)
    seed_initialisers(seed, "head")
    network.attach(params.head.pool, params.head.units, params.head.dropout, len(classes))
    return network


def run_thaw(params, phases, train, val, classes: list[str], seed: int) -> dict[str, Any]:
    """The phases by thaw: each has a name, parameters, and a number of frozen layers."""
    from bench.clock import Clock
    from thaw.data.stored import phase_data
    from thaw.extraction.extract import extract_features
    from thaw.extraction.plan import Extraction
    from thaw.training.loop import Run, train_network

    network = start(params, classes, seed)
    extraction = Extraction(
        pool=params.head.pool,
        classes=classes,
        train=train,
        val=val,
        augment=params.augment,
        settings=params.extract,
    )
    seconds, accuracy, epochs, history = {}, {}, {}, []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "features"
        begun = started = time.perf_counter()
        extract_features(folder, network, extraction)
        seconds["extract"] = time.perf_counter() - started
        reached = []
        for name, phase, frozen in phases:
            network.freeze(frozen)
            training_run = Run(
                stage=name,
                phase=name,
                training=phase,
                batch_size=params.batch_size,
                seed=seed,
                augment=params.augment,
                batch_norm=getattr(phase, "batch_norm", "inference"),
                history=history,
                mixup=phase.mixup,
            )
            clock = Clock()
            started = time.perf_counter()
            data = phase_data(folder, network.depth_above(frozen), classes)
            rows = train_network(network, training_run, data, [clock]).rows
            seconds[name] = time.perf_counter() - started
            ends = clock.ends
            reached += [
                (round(end - begun, 2), row["val_accuracy"]) for end, row in zip(ends[1:], rows[1:], strict=True)
            ]
            history += rows
            accuracy[name] = max(row["val_accuracy"] for row in rows)
            epochs[name] = [round(b - a, 3) for a, b in zip(ends, ends[1:], strict=False)]
        rows_passed = params.augment.views * len(train) + len(val)
        rate = _pass_rate(network, params, train)
    steps = sum(min(epochs[name]) * phase.epochs for name, phase, _ in phases)
    return {
        "seconds": seconds,
        "accuracy": accuracy,
        "final": accuracy[phases[-1][0]],
        "reached": reached,
        "epoch_seconds": epochs,
        "pass_images_per_second": round(rate),
        # Cost of the method itself: no tracing, no start, each epoch as fast as the fastest.
        "bound": round(rows_passed / rate + steps, 2),
    }


def _pass_rate(network, params, train) -> float:
    """Images per second of the frozen network alone, the best of three passes over one chunk."""
    from thaw.network.augmentation import augmentation_inputs
    from thaw.network.inference import chunk_size, predict_chunks

    model = network.features([0, 1, 2], params.head.pool, params.augment)
    images, seconds = train.inputs[: chunk_size(model, params.extract.batch_size)], []
    inputs = augmentation_inputs(images, params.augment, view=1)
    for _ in range(4):
        started = time.perf_counter()
        list(predict_chunks(model, inputs, params.extract.batch_size))
        seconds.append(time.perf_counter() - started)
    return len(images) / min(seconds[1:])


def _notebook(params, phases, train, val, classes: list[str], seed: int) -> dict[str, Any]:
    import keras
    import numpy as np

    from bench import notebook
    from thaw.network.build import adapt_batch_norm

    keras.utils.set_random_seed(seed)
    network = start(params, classes, seed)
    plain = _plain(network)
    # The model augments, on the device.
    settings = {"batch_size": params.batch_size, "augment": dict.fromkeys(params.augment.model_dump(), 0)}
    one_hot = np.eye(len(classes), dtype=np.float32)
    labelled = [(split.inputs[:], one_hot[split.labels]) for split in (train, val)]
    seconds, accuracy = {}, {}
    for name, phase, frozen in phases:
        network.freeze(frozen)
        started = time.perf_counter()
        model = plain(params.augment, getattr(phase, "batch_norm", "inference"))
        adapt_batch_norm(network.layers(), len(train) // params.batch_size, phase.average)
        clock = notebook.Clock()
        notebook.fit(model, name, phase.model_dump(), settings, *labelled, clock)
        seconds[name] = time.perf_counter() - started
        accuracy[name] = max(val_accuracy for *_, val_accuracy in clock.reached)
    return {"seconds": seconds, "accuracy": accuracy, "final": accuracy[phases[-1][0]]}


def _plain(network):
    """From augmentation and BatchNorm's mode to the network as Keras has it: no layer folded, none left out."""
    import keras

    from thaw.network.modes import InferenceMode

    def build(augment, batch_norm: str) -> keras.Model:
        inputs, x = network.image_input(augment)
        for block in network.blocks:
            x = (InferenceMode(block) if batch_norm == "inference" else block)(x)
        return keras.Model(inputs, network.head(network.pooled(x)))

    return build


def _pytorch(params, phases, train, val, classes: list[str], seed: int) -> dict[str, Any]:
    from bench import torch_peer

    seconds = torch_peer.phases(
        train.inputs[:],
        train.labels,
        val.inputs[:],
        val.labels,
        image_size=params.backbone.image_size,
        alpha=params.backbone.alpha,
        batch_size=params.batch_size,
        phases=[(name, 0 if name == "head" else phase.depth, phase.epochs) for name, phase, _ in phases],
        learning_rate=params.backbone.learning_rate,
        augment=bool(params.augment.flip) or params.augment.translation > 0,
        head_units=params.head.units,
        batch_norm=getattr(phases[-1][1], "batch_norm", "inference"),
    )
    return {"seconds": seconds, "accuracy": {}, "final": None}


_SIDES = {"notebook": _notebook, "thaw": run_thaw, "pytorch": _pytorch}


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each phase, for the whole, and for the time to the notebook's accuracy.

    Means over the seeds of each side's seconds and images per second, and the ratios to the notebook's
    seconds, by seed, with their range.
    """
    by = {side: {run["seed"]: run for run in runs if run["side"] == side} for side in SIDES}
    by = {side: by_seed for side, by_seed in by.items() if by_seed}
    seeds = sorted(by["notebook"])
    phases = list(by["notebook"][seeds[0]]["seconds"])
    rows = [_row(name, by, seeds, phases) for name in [*phases, "all"]]
    times = {seed: _time_to(by["thaw"][seed], by["notebook"][seed]["final"]) for seed in seeds}
    if all(times.values()):
        ratios = [by["notebook"][seed]["total"] / times[seed] for seed in seeds]
        rows.append(
            {
                "phase": "to the notebook's accuracy",
                "seconds": {
                    "notebook": statistics.mean(by["notebook"][seed]["total"] for seed in seeds),
                    "thaw": statistics.mean(times.values()),
                },
                "ratio": {"thaw": [min(ratios), statistics.mean(ratios), max(ratios)]},
            }
        )
    return rows


def _row(name: str, by: dict, seeds: list[int], phases: list[str]) -> dict[str, Any]:
    seconds = {
        side: {seed: _seconds(run, name, phases[0]) for seed, run in by_seed.items()} for side, by_seed in by.items()
    }
    last = phases[-1] if name == "all" else name
    first = by["notebook"][seeds[0]]
    trained = first["images"] * (sum(first["epochs"].values()) if name == "all" else first["epochs"][name])
    row = {
        "phase": name,
        "seconds": {side: statistics.mean(values.values()) for side, values in seconds.items()},
        "images_per_second": {side: trained / statistics.mean(values.values()) for side, values in seconds.items()},
        "ratio": {},
        "accuracy": {
            side: [run["accuracy"][last] for run in by_seed.values()]
            for side, by_seed in by.items()
            if side != "pytorch"
        },
    }
    for side in list(by)[1:]:
        ratios = [seconds["notebook"][seed] / value for seed, value in seconds[side].items()]
        row["ratio"][side] = [min(ratios), statistics.mean(ratios), max(ratios)]
    if name == "all":
        row["peak_gb"] = {side: max(run["peak_gb"] for run in by_seed.values()) for side, by_seed in by.items()}
        row["bound"] = statistics.mean(by["thaw"][seed]["bound"] for seed in seeds)
    return row


def _seconds(run: dict[str, Any], phase: str, first: str) -> float:
    """Seconds of a phase; what thaw spends on extraction counts for the first."""
    if phase == "all":
        return run["total"]
    return run["seconds"][phase] + (run["seconds"].get("extract", 0) if phase == first else 0)


def _time_to(run: dict[str, Any], accuracy: float) -> float | None:
    return next((seconds for seconds, reached in run["reached"] if reached >= accuracy), None)


def table(rows: list[dict[str, Any]]) -> str:
    """The summary in Markdown."""
    sides = list(rows[0]["seconds"])
    lines = [
        f"| phase | {' | '.join(f'{side}, s' for side in sides)} | notebook / thaw (range) "
        f"| images/s: {', '.join(sides)} | validation accuracy: notebook, thaw |",
        "|" + "---|" * (len(sides) + 4),
    ]
    for row in rows:
        low, mean, high = row["ratio"]["thaw"]
        name = {"head": "head, extraction included", "all": "**all**"}.get(row["phase"], row["phase"])
        seconds = [f"{row['seconds'][side]:.1f}" if side in row["seconds"] else "" for side in sides]
        rates = row.get("images_per_second", {})
        accuracy = row.get("accuracy", {})
        lines.append(
            f"| {name} | {' | '.join(seconds)} | {mean:.2f} ({low:.2f} to {high:.2f}) "
            f"| {', '.join(f'{rates[side]:,.0f}' for side in sides if side in rates)} "
            f"| {', '.join(f'{statistics.mean(accuracy[side]):.4f}' for side in ('notebook', 'thaw') if accuracy)} |"
        )
    whole = next(row for row in rows if row["phase"] == "all")
    memory = ", ".join(f"{side} {gb:.2f}" for side, gb in whole["peak_gb"].items())
    lines += ["", f"Peak anonymous memory, GB: {memory}. Bound of thaw's seconds: {whole['bound']:.1f}."]
    return "\n".join(lines)


def _line(run: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {value:.1f}" for name, value in run["seconds"].items())
    final = "" if run["final"] is None else f", {run['final']:.4f}"
    return f"{run['side']}, seed {run['seed']}: {run['total']:.1f} s ({parts}){final}, {run['peak_gb']} GB"


if __name__ == "__main__":
    main()
