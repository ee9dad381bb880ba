"""Time to accuracy: thaw's gradual schedule against plain fine-tuning (the head, then all blocks). Start at `measure`.

    python -m bench.time_to_accuracy --on backbone=mobilenetv2 backbone.weights=/data/weights.h5 --grid
    python -m bench.time_to_accuracy --on backbone=mobilenetv2 backbone.weights=/data/weights.h5 --seeds 0 1 2

A run is a whole command in a fresh clone of HEAD: start-up, extraction, validation after each epoch, evaluation on the
test split; nothing stops early. The stages download and preprocess, which all sides need, have run in the clone before
the clock starts. Sides alternate by seed:

- full: thaw's schedule of that name, by `dvc repro`; one view and no cut but the head's, as nothing else is used;
- notebook: the same in Keras alone (bench/notebook.py);
- pytorch: the same in PyTorch, channels last (bench/torch_notebook.py), where torch is installed;
- gradual: the schedule of conf/, by `dvc repro`;
- second: a second experiment, all rates of gradual halved. extract has run before, too: `dvc repro` runs what follows.

`--grid` runs full at rates and numbers of epochs, on a seed that is not measured. The plain sides take the rate and the
epochs of its highest validation accuracy, or with `--plain EPOCHS` the best rate for these. `--also NAME KEY=VALUE...`
adds a side: gradual with overrides. `--ablations` runs gradual without each of its means (bench/ablations.py).

A run is a file, bench/results/time_to_accuracy/<name>/<side>-seed-<seed>.json; one whose file exists is skipped. The
table and the figure, <name>.md and <name>.png, are made from all files of the folder.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import ablations, common, runs, store, time_report
from thaw import paths
from thaw.config.schema import Params
from thaw.errors import ThawError
from thaw.network.backend import prefer_onednn
from thaw.stage import composed_params, read_params
from tools import clones

BENCH = "time_to_accuracy"
# File that a notebook writes.
RESULT = "result.json"


@dataclass(frozen=True)
class Side:
    """What is measured.

    Attributes:
        overrides: of conf/, as `-S` takes them.
        program: module that the clone runs; None: `dvc repro`.
        before: overrides of what the clone runs before the clock starts; None: the same.
        until: last stage of that.
    """

    overrides: list[str]
    program: str | None = None
    before: list[str] | None = None
    until: str = "preprocess"


@dataclass(frozen=True)
class Plain:
    """The plain sides' epochs of all blocks, and their learning rate."""

    epochs: int
    learning_rate: float


def main() -> None:
    arguments = _arguments()
    try:
        if arguments.grid:
            run_grid(arguments)
        elif arguments.ablations:
            run_ablations(arguments)
        else:
            run_sides(arguments)
    except ThawError as error:
        sys.exit(str(error))


def run_sides(arguments: argparse.Namespace) -> None:
    """Run all sides with all seeds, and report."""
    run_all(arguments, arguments.bench, sides(arguments))
    time_report.write_report(arguments.bench)


def run_ablations(arguments: argparse.Namespace) -> None:
    """Run gradual without each of its means with all seeds, and report; without those that change nothing in it.

    Raises:
        SystemExit: gradual itself has not been run.
    """
    ablations.read(arguments.bench)
    changed = ablations.overrides(arguments.params)
    measured = {name: Side(_fixed_length([*arguments.on, *overrides])) for name, overrides in changed.items()}
    gradual = composed_params(_fixed_length(arguments.on))
    measured = {name: side for name, side in measured.items() if composed_params(side.overrides) != gradual}
    run_all(arguments, f"{arguments.bench}/ablations", measured)
    ablations.write_report(arguments.bench)


def run_all(arguments: argparse.Namespace, bench: str, measured: dict[str, Side]) -> None:
    """Run sides, or those of `--only`, with all seeds."""
    if unknown := set(arguments.only or []) - set(measured):
        sys.exit(f"--only: received {', '.join(sorted(unknown))}; accepted: {', '.join(measured)}")
    for seed in arguments.seeds:
        names = [name for name in measured if not arguments.only or name in arguments.only]
        # The order alternates: a machine that slows down slows all sides.
        for name in names if seed % 2 == 0 else reversed(names):
            run(arguments, bench, name, measured[name], seed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = ["backbone=mobilenetv2", "backbone.alpha=0.35"]
    parser.add_argument(
        "--on", nargs="+", default=usual, metavar="KEY=VALUE", help=f"for every run (default: {' '.join(usual)})"
    )
    parser.add_argument("--images", type=_count, default=20_000, help="training images, or all (default 20000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", metavar="SIDE", help="by default all")
    parser.add_argument(
        "--also", nargs="+", action="append", default=[], metavar=("NAME", "KEY=VALUE"), help="another side"
    )
    parser.add_argument("--plain", type=_plain, metavar="EPOCHS[,RATE]", help="by default the best of the grid")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--grid", action="store_true", help="search the plain sides' rate and epochs")
    instead.add_argument("--ablations", action="store_true", help="run gradual without each of its means")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0005, 0.001, 0.002, 0.004], help="of the grid")
    parser.add_argument("--epochs", type=int, nargs="+", default=[4, 8, 12], help="of the grid")
    parser.add_argument("--grid-seed", type=int, default=100)
    parser.add_argument("--name", help="folder of the results; by default backbone, image size and number of images")
    parser.add_argument("--again", action="store_true", help="replace the results that are there")
    arguments = parser.parse_args()
    arguments.on = [*map(_absolute, arguments.on), f"dataset.limit={arguments.images or 'null'}"]
    try:
        params = composed_params(arguments.on)
    except ThawError as error:
        parser.error(str(error))
    if params.dataset.classes is not None:
        parser.error(f"dataset.classes: received {params.dataset.classes}; accepted: null, all classes")
    arguments.params, arguments.bench = params, f"{BENCH}/{arguments.name or _name(params)}"
    return arguments


def _absolute(override: str) -> str:
    """An override whose file the clones find, too."""
    key, _, value = override.partition("=")
    return f"{key}={Path(value).resolve()}" if key == "backbone.weights" and Path(value).is_file() else override


def _count(text: str) -> int | None:
    return None if text == "all" else int(text)


def _plain(text: str) -> tuple[int, float | None]:
    epochs, _, rate = text.partition(",")
    return int(epochs), float(rate) if rate else None


def _name(params: Params) -> str:
    section = params.backbone
    width = [] if section.alpha is None else [f"{section.alpha:g}"]
    return "-".join([section.name, *width, f"{section.image_size}px", str(params.dataset.limit or "all")])


def full(plain: Plain) -> list[str]:
    """Overrides for two epochs of the head, then all blocks."""
    return [
        "schedule=full",
        "head.epochs=2",
        "extract.cuts=[0]",
        "augment.views=1",
        f"schedule.phases.all.epochs={plain.epochs}",
        f"schedule.phases.all.learning_rate={plain.learning_rate:g}",
    ]


def sides(arguments: argparse.Namespace) -> dict[str, Side]:
    """All sides by name, those that cannot run left out."""
    on, found = arguments.on, {}
    if not arguments.only or set(arguments.only) & set(time_report.PLAIN):
        overrides = _fixed_length([*on, *full(plain_settings(arguments))])
        found = {"full": Side(overrides), "notebook": Side(overrides, "bench.notebook")}
        if reason := _no_pytorch(arguments.params):
            print(f"pytorch: skipped, {reason}", flush=True)
        else:
            found["pytorch"] = Side(overrides, "bench.torch_notebook")
    gradual = _fixed_length(on)
    return found | {
        "gradual": Side(gradual),
        "second": Side([*gradual, *_halved(gradual)], before=gradual, until="extract"),
        **{name: Side(_fixed_length([*on, *overrides])) for name, *overrides in arguments.also},
    }


def _fixed_length(overrides: list[str]) -> list[str]:
    """The overrides, without early stopping."""
    phases = composed_params(overrides).schedule.phases
    return [*overrides, "head.patience=null", *(f"schedule.phases.{name}.patience=null" for name in phases)]


def _halved(overrides: list[str]) -> list[str]:
    """Half the learning rates of each phase."""
    params = composed_params(overrides)
    sections = {"head": params.head} | {
        f"schedule.phases.{key}": value for key, value in params.schedule.phases.items()
    }
    return [
        f"{section}.{key}={getattr(training, key) / 2:g}"
        for section, training in sections.items()
        for key in ("learning_rate", "final_learning_rate")
    ]


def _no_pytorch(params: Params) -> str | None:
    """Why there is no side in PyTorch; None where there is one."""
    augment = params.augment
    if find_spec("torch") is None:
        return "torch is not installed"
    if params.backbone.name != "mobilenetv2" or params.head.pool != "avg":
        return "only MobileNetV2 with average pooling is written in PyTorch"
    if params.backbone.weights == "imagenet":
        return "backbone.weights is no file"
    if augment.rotation or augment.zoom or augment.contrast:
        return "only mirror images and shifts are written in PyTorch"
    return None


def run(arguments: argparse.Namespace, bench: str, name: str, side: Side, seed: int) -> None:
    """Run a side with a seed, unless its result is there, and print its scores."""
    overrides = [*side.overrides, f"seed={seed}"]
    measured = partial(measure, name, side, seed)
    result = store.once(bench, f"{name} seed {seed}", overrides, measured, arguments.again)
    scores = ", ".join(f"{key} {result['metrics'][key]:.4f}" for key in ("accuracy", "val_accuracy"))
    print(f"{name}, seed {seed}: {result['wall_seconds']:.0f} s, {scores}", flush=True)


def measure(name: str, side: Side, seed: int) -> store.Result:
    """Run a side in a fresh clone.

    Returns:
        name; settings; wall_seconds of the whole command; seconds of each stage that ran; metrics; reached: seconds
        since the command's start, phase and validation accuracy at the end of each epoch.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clones.clone("HEAD", folder)
        clones.compose(folder, [*(side.before or side.overrides), f"seed={seed}"])
        clones.repro(folder, side.until)
        if side.before:
            clones.compose(folder, [*side.overrides, f"seed={seed}"])
        params = read_params(folder / paths.PARAMS)
        if params.backbone.weights == "imagenet":
            _download_weights(params)
        command = ["-m", side.program, RESULT] if side.program else ["-m", "dvc", "repro"]
        timed = run_timed([sys.executable, *command], folder)
        if side.program:
            result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        else:
            found = runs.collect(folder)
            seconds = {stage: value for stage, value in found["seconds"].items() if stage in timed.stages}
            result = {"seconds": seconds, "metrics": found["metrics"], "reached": timed.reached}
        return {"name": name, "settings": common.settings(params), "wall_seconds": round(timed.seconds, 2), **result}


def _download_weights(params: Params) -> None:
    """Have Keras download ImageNet's weights before the clock starts."""
    section = params.backbone
    build = f"BACKBONES[{section.name!r}].build({section.image_size}, {section.alpha}, 'imagenet')"
    subprocess.run([sys.executable, "-c", f"from thaw.backbones import BACKBONES; {build}"], check=True)


@dataclass
class Timed:
    """A command that has ended.

    Attributes:
        seconds: of the whole command.
        stages: that DVC ran.
        reached: seconds since its start, phase and validation accuracy at the end of each epoch.
    """

    seconds: float = 0.0
    stages: list[str] = field(default_factory=list)
    reached: list[tuple[float, str, float]] = field(default_factory=list)


def run_timed(command: list[str], folder: Path) -> Timed:
    """Run a command in a folder, and note when DVC's stages print the end of an epoch; the lines of epochs are printed.

    Raises:
        SystemExit: the command fails; with what it printed last.
    """
    timed, lines, started = Timed(), [], time.perf_counter()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = clones.environment()
    # As thaw does: a plain side is not to be slower for want of it.
    prefer_onednn(environment)
    with subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes) as process:
        for line in process.stdout or []:
            lines.append(line)
            if stage := re.match(r"Running stage '(.*)'", line):
                timed.stages.append(stage[1])
            if epoch := re.match(r"(?:unfreeze@|train_)(\w[\w-]*): epoch .*, val loss \S+ accuracy (\S+)", line):
                timed.reached.append((round(time.perf_counter() - started, 2), epoch[1], float(epoch[2])))
            if ": epoch " in line:
                print(line, end="", flush=True)
    timed.seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{''.join(lines[-30:])}{' '.join(command)}: ended with {process.returncode}")
    return timed


def run_grid(arguments: argparse.Namespace) -> None:
    """Run thaw's full at all rates and numbers of epochs, and write the best."""
    bench = f"{arguments.bench}/grid"
    for epochs in arguments.epochs:
        for rate in arguments.rates:
            side = Side(_fixed_length([*arguments.on, *full(Plain(epochs, rate))]))
            run(arguments, bench, f"{epochs} epochs rate {rate:g}", side, arguments.grid_seed)
    best = best_of_grid(store.read(bench))
    common.write(_grid_file(arguments.bench), best)
    print(grid_table(best))


def _grid_file(bench: str) -> Path:
    return store.RESULTS / f"{bench}-grid.json"


def best_of_grid(results: Iterable[store.Result]) -> dict[str, Any]:
    """The best of a grid by validation accuracy.

    Returns:
        grid: epochs, learning_rate and val_accuracy of each run; rates: the best rate for each number of epochs; best:
        epochs and learning_rate; inside: for each of the two, whether there are lower and higher values in the grid.
    """
    grid = []
    for result in results:
        phase = result["settings"]["schedule"]["phases"]["all"]
        row = {"epochs": phase["epochs"], "learning_rate": phase["learning_rate"]}
        grid.append(row | {"val_accuracy": result["metrics"]["val_accuracy"]})
    grid.sort(key=lambda row: (row["epochs"], row["learning_rate"]))

    def rank(row: dict[str, Any]) -> float:
        return row["val_accuracy"]

    best = max(grid, key=rank)
    numbers = sorted({row["epochs"] for row in grid})
    of_number = {number: [row for row in grid if row["epochs"] == number] for number in numbers}
    rates = [row["learning_rate"] for row in of_number[best["epochs"]]]
    return {
        "grid": grid,
        "rates": {str(number): max(rows, key=rank)["learning_rate"] for number, rows in of_number.items()},
        "best": {key: best[key] for key in ("epochs", "learning_rate")},
        "inside": {
            "epochs": numbers[0] < best["epochs"] < numbers[-1],
            "learning_rate": rates[0] < best["learning_rate"] < rates[-1],
        },
    }


def grid_table(best: dict[str, Any]) -> str:
    """Validation accuracy by epochs and rate in Markdown, and where the best lies."""
    rates = sorted({row["learning_rate"] for row in best["grid"]})
    value = {(row["epochs"], row["learning_rate"]): f"{row['val_accuracy']:.4f}" for row in best["grid"]}
    lines = [f"| epochs | {' | '.join(f'{rate:g}' for rate in rates)} |", "|---|" + "---|" * len(rates)]
    for epochs in sorted({row["epochs"] for row in best["grid"]}):
        lines.append(f"| {epochs} | {' | '.join(value.get((epochs, rate), '') for rate in rates)} |")
    where = [f"{'inside' if inside else 'at the edge of'} the {key}" for key, inside in best["inside"].items()]
    chosen = f"{best['best']['epochs']} epochs at {best['best']['learning_rate']:g}"
    lines += ["", f"Validation accuracy by epochs and learning rate. Best: {chosen}, {', '.join(where)}."]
    return "\n".join(lines).replace("learning_rate", "rates")


def plain_settings(arguments: argparse.Namespace) -> Plain:
    """The epochs and the rate of the plain sides: those of `--plain`, else of the grid.

    Raises:
        SystemExit: there is no grid, or it has no such number of epochs.
    """
    epochs, rate = arguments.plain or (None, None)
    if epochs and rate:
        return Plain(epochs, rate)
    file = _grid_file(arguments.bench)
    if not file.exists():
        sys.exit(f"{file}: does not exist; run --grid first, or give --plain EPOCHS,RATE")
    grid = json.loads(file.read_text(encoding="utf-8"))
    epochs = epochs or grid["best"]["epochs"]
    if str(epochs) not in grid["rates"]:
        sys.exit(f"--plain: received {epochs} epochs without a rate; {file} has {', '.join(grid['rates'])}")
    return Plain(epochs, grid["rates"][str(epochs)])


if __name__ == "__main__":
    main()
