"""thaw against the way notebooks do it: seconds from pictures to accuracy, over the same phases.

    make bench                       # or: python -m bench.schedule --seeds 3

Both sides train the head, then the phases of params.yaml's schedule that have a stored cut, on
data/processed (`dvc repro preprocess` makes it) with the backbone of params.yaml: the same pictures,
epochs, learning rates, batch size, augmentation family, BatchNorm mode, threads, and no XLA on a CPU.

- notebook: one Keras model; `fit` over the pictures, through the whole network in each epoch, with a
  compiled and prefetched input pipeline and augmentation drawn anew on the device;
- thaw: one extraction of all cuts, then each phase from the activations stored at its cut.

Sides alternate, each run in a process of its own. Seconds are from the pictures in memory to the end of
the last phase, tracing and validation of each epoch included, imports and building the network excluded.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

SIDES = ("notebook", "thaw")


def main() -> None:
    parser = argparse.ArgumentParser(description="thaw against fit() over pictures, side by side", epilog="make bench")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each side (default 3)")
    parser.add_argument("--output", type=Path, default=Path("bench/results/schedule.json"))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(run(arguments.side, arguments.seed)))
        return
    runs = []
    for seed in range(arguments.seeds):
        # Who goes first alternates, too: a machine that slows down is to slow both.
        for side in SIDES if seed % 2 == 0 else reversed(SIDES):
            runs.append(_apart(side, seed))
            print(_line(runs[-1]), flush=True)
    result = {"machine": machine(), "settings": settings(), "runs": runs, "summary": summary(runs)}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result["summary"]))


def _apart(side: str, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.schedule", "--side", side, "--seed", str(seed)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def run(side: str, seed: int) -> dict[str, Any]:
    """One run of one side: seconds, validation accuracy and peak memory of each phase."""
    from thaw import device, params

    chosen = params.load()
    device.use(chosen.backend, chosen.device)

    from thaw import params as schema
    from thaw import seeds, splits, training, weights
    from thaw.feeding import Examples

    classes = splits.class_names(chosen.dataset.classes)
    train, val = (Examples(*splits.read(split, classes)) for split in ("train", "val"))
    network = weights.backbone(chosen.backbone, seed)
    seeds.initialise(seed, "head")
    network.attach(chosen.head.pool, chosen.head.units, chosen.head.dropout, len(classes))
    phases: list[tuple[str, Any, int]] = [("head", chosen.head, len(network.order))]
    for name, phase in chosen.schedule.phases.items():
        frozen = schema.frozen_layers(phase, network.name)
        if network.depth_above(frozen) in chosen.extract.cuts:
            phases.append((name, phase, frozen))

    seconds, accuracy, history = {}, {}, []
    with tempfile.TemporaryDirectory() as folder:
        if side == "thaw":
            from thaw import features

            started = time.perf_counter()
            features.extract(
                Path(folder) / "features",
                network,
                chosen.head.pool,
                classes,
                train,
                val,
                chosen.augment,
                chosen.extract,
            )
            seconds["extract"] = time.perf_counter() - started
        for name, phase, frozen in phases:
            network.freeze(frozen)
            started = time.perf_counter()
            if side == "thaw":
                data = features.data(Path(folder) / "features", network.depth_above(frozen), classes)
                of = training.Run(name, name, phase, chosen.batch_size, seed, history, phase.mixup)
                batch_norm = getattr(phase, "batch_norm", "inference")
                rows = training.fit_network(
                    network, of, data, augment=chosen.augment, batch_norm=batch_norm, report=lambda rows: None
                )
                history += rows
                accuracy[name] = max(row["val_accuracy"] for row in rows)
            else:
                accuracy[name] = _fit(network, phase, train, val, chosen, seed, name)
            seconds[name] = time.perf_counter() - started
    return {
        "side": side,
        "seed": seed,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "total": round(sum(seconds.values()), 2),
        "accuracy": accuracy,
        "final": accuracy[phases[-1][0]],
        "epochs": {name: phase.epochs for name, phase, _ in phases},
        "pictures": len(train),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def _fit(network, phase, train, val, chosen, seed: int, name: str) -> float:
    """A phase as notebooks run it: one `fit` over the pictures."""
    import keras

    from thaw import seeds, training

    model = network.classifier(augment=chosen.augment, batch_norm=getattr(phase, "batch_norm", "inference"))
    steps = len(train) // chosen.batch_size
    model.compile(
        optimizer=keras.optimizers.Adam(training.learning_rate(phase, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    seeds.reseed(model, seed, name)
    history = model.fit(
        _pipeline(train, chosen.batch_size, seeds.derive(seed, name)),
        validation_data=_pipeline(val, chosen.batch_size, None),
        epochs=phase.epochs,
        verbose=0,
    ).history
    return max(history["val_accuracy"])


def _pipeline(examples, batch_size: int, seed: int | None):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((examples.inputs[:], examples.labels))
    if seed is not None:
        data = data.shuffle(len(examples), seed=seed, reshuffle_each_iteration=True)
    return data.batch(batch_size, drop_remainder=seed is not None).prefetch(tf.data.AUTOTUNE)


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per phase and one for the whole: mean seconds of both sides, and the ratio with its range."""
    pairs = [[next(r for r in runs if r["side"] == side and r["seed"] == s) for side in SIDES] for s in _seeds(runs)]
    phases = list(pairs[0][0]["seconds"])
    rows = []
    for name in [*phases, "all"]:
        times = [[_seconds(run, name, phases[0]) for run in pair] for pair in pairs]
        ratios = [old / new for old, new in times]
        last = phases[-1] if name == "all" else name
        rows.append(
            {
                "phase": name,
                "notebook": statistics.mean(old for old, _ in times),
                "thaw": statistics.mean(new for _, new in times),
                "ratio": statistics.mean(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                "accuracy": {side: [pair[i]["accuracy"][last] for pair in pairs] for i, side in enumerate(SIDES)},
            }
        )
    return rows


def _seconds(run: dict[str, Any], phase: str, first: str) -> float:
    """Seconds of a phase; what thaw spends on extraction counts for the first."""
    if phase == "all":
        return run["total"]
    return run["seconds"][phase] + (run["seconds"].get("extract", 0) if phase == first else 0)


def _seeds(runs: list[dict[str, Any]]) -> list[int]:
    return sorted({run["seed"] for run in runs})


def table(rows: list[dict[str, Any]]) -> str:
    """The summary in Markdown."""
    lines = [
        "| phase | notebook, s | thaw, s | ratio (range) | validation accuracy: notebook | thaw |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["ratio_range"]
        old, new = (statistics.mean(row["accuracy"][side]) for side in SIDES)
        name = {"head": "head, extraction included", "all": "**all**"}.get(row["phase"], row["phase"])
        lines.append(
            f"| {name} | {row['notebook']:.1f} | {row['thaw']:.1f} | {row['ratio']:.2f} ({low:.2f} to {high:.2f}) "
            f"| {old:.4f} | {new:.4f} |"
        )
    return "\n".join(lines)


def settings() -> dict[str, Any]:
    """The parameters that the runs share."""
    from thaw import params

    chosen = params.load().model_dump()
    chosen["backbone"].pop("weights_file")
    for section, key in (("backbone", "weights"), ("dataset", "url")):
        # Where a file lies says nothing to others; its hash or kind does.
        if "/" in str(chosen[section][key]):
            chosen[section][key] = "a file"
    return chosen


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    cpu = next(
        (line.split(":")[1].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    packages = {name: version(name) for name in ("keras", "tensorflow", "numpy")}
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), **packages}


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""


def _line(one: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {value:.1f}" for name, value in one["seconds"].items())
    return f"{one['side']}, seed {one['seed']}: {one['total']:.1f} s ({parts}), {one['final']:.4f}, {one['peak_gb']} GB"


if __name__ == "__main__":
    main()
