"""Whole runs of the pipeline, each in a clone of this checkout, and their results. Start at `main`.

A run is a file in bench/results/schedules or bench/results/recipes; one whose file exists is skipped.

python -m bench.runs schedules --seeds 0 1 --on dataset.limit=20000 ...
python -m bench.runs recipes --seeds 0 1 2 --only class-split class-split-scratch --on dataset.url=...
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import common, store
from thaw import paths
from thaw.config.schema import Params
from thaw.network.checkpoint import read_checkpoint_info
from thaw.stage import read_params
from tools import clones


def _gradual(epochs: int) -> list[str]:
    """Overrides for two epochs of the head, one of each stored cut, and `epochs` of all blocks."""
    cuts = [f"schedule.phases.{cut}.{key}" for cut in ("depth1", "depth2") for key in ("epochs=1", "warmup_epochs=0.2")]
    return ["schedule=gradual", "head.epochs=2", *cuts, f"schedule.phases.all.epochs={epochs}"]


# 10 epochs each, except for one.
SCHEDULES = {
    "head only": ["schedule=head-only", "head.epochs=10"],
    "gradual": _gradual(6),
    # As many epochs of all blocks as in "all at once".
    "gradual, 12 epochs": _gradual(8),
    "all at once": ["schedule=full", "head.epochs=2", "schedule.phases.all.epochs=8"],
    "from scratch": ["schedule=scratch", "schedule.phases.all.epochs=10", "backbone.weights=none"],
}
# Without early stopping: the numbers of epochs must be equal.
for overrides in SCHEDULES.values():
    phases = {override.split(".")[2] for override in overrides if override.startswith("schedule.phases.")}
    overrides += ["head.patience=null", *(f"schedule.phases.{phase}.patience=null" for phase in sorted(phases))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["schedules", "recipes"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the schedules or recipes; all of them by default")
    parser.add_argument("--on", nargs="+", default=[], metavar="KEY=VALUE", help="for every run, as -S takes them")
    parser.add_argument("--again", action="store_true", help="replace the results that are there")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw validation accuracy by epoch")
    arguments = parser.parse_args()
    runs = overrides_of(arguments.what)
    names = arguments.only or list(runs)
    if unknown := set(names) - set(runs):
        parser.error(f"--only: received {', '.join(sorted(unknown))}; accepted: {', '.join(runs)}")
    for seed in arguments.seeds:
        for name in names:
            # Later overrides win: a schedule from scratch has no weights, even if `--on` sets some.
            overrides = [*arguments.on, *runs[name], f"seed={seed}"]
            measure = partial(run, name, overrides)
            result = store.once(arguments.what, f"{name} seed {seed}", overrides, measure, arguments.again)
            print(f"{name}, seed {seed}: test accuracy {result['metrics']['accuracy']:.4f}", flush=True)
    results = results_of(arguments.what)
    print(table(results))
    if arguments.figure:
        draw_curves(arguments.figure, results)


def overrides_of(what: str) -> dict[str, list[str]]:
    """The overrides of each schedule or recipe, by name."""
    if what == "schedules":
        return SCHEDULES
    recipes = sorted(file.stem for file in (paths.CONF / "recipe").glob("*.yaml") if file.stem != "none")
    return {name: [f"recipe={name}"] for name in recipes}


def results_of(what: str) -> dict[str, list[dict[str, Any]]]:
    """The finished runs of each schedule or recipe that has any, by seed."""
    finished = sorted(store.read(what), key=lambda result: result["settings"]["seed"])
    by_name = {name: [result for result in finished if result["name"] == name] for name in overrides_of(what)}
    return {name: results for name, results in by_name.items() if results}


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Test accuracy and F1 by seed, and the seconds of all stages but download."""
    lines = ["| run | seeds | test accuracy | macro F1 | training accuracy | seconds |", "|---|---|---|---|---|---|"]
    for name, runs in results.items():
        columns = [
            ", ".join(str(result["settings"]["seed"]) for result in runs),
            *(_each(result["metrics"][key] for result in runs) for key in ("accuracy", "macro_f1", "train_accuracy")),
            ", ".join(f"{seconds(result):.0f}" for result in runs),
        ]
        lines.append(f"| {name} | {' | '.join(columns)} |")
        if "source" in runs[0]["metrics"]:
            for key, words in (("source", "its source task"), ("source_after", "its source task, after the transfer")):
                scores = [_each(result["metrics"][key][score] for result in runs) for score in ("accuracy", "macro_f1")]
                lines.append(f"| {words} | | {' | '.join(scores)} | | |")
    return "\n".join(lines)


def _each(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def seconds(run: dict[str, Any]) -> float:
    """Seconds of all stages but download."""
    return sum(value for stage, value in run["seconds"].items() if stage != "download")


def draw_curves(path: Path, results: dict[str, list[dict[str, Any]]]) -> None:
    """Draw validation accuracy by epoch of all runs, each name in its colour, with the mean test accuracy."""
    from matplotlib.figure import Figure

    from thaw.figures.grids import save_figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, runs) in enumerate(results.items()):
        for result in runs:
            epochs, _, values = zip(*result["val_accuracy"], strict=True)
            axes.plot(epochs, values, color=f"C{number}", marker=".", linewidth=1)
        mean = np.mean([result["metrics"]["accuracy"] for result in runs])
        axes.plot([], [], color=f"C{number}", marker=".", label=f"{name}: {mean:.3f} on test")
    axes.set(xlabel="epoch", ylabel="validation accuracy")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def run(name: str, overrides: list[str]) -> dict[str, Any]:
    """Run the pipeline with these overrides in a clone of HEAD, and collect."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clones.clone("HEAD", folder)
        clones.run(folder, overrides)
        return {"name": name, **collect(folder)}


def collect(folder: Path) -> dict[str, Any]:
    """Settings, metrics, seconds of each stage and the curve of a finished run."""
    params = read_params(folder / paths.PARAMS)
    times = sorted((folder / "metrics/time").glob("*.json"))
    return {
        "settings": common.settings(params),
        "metrics": json.loads((folder / paths.METRICS / "evaluate.json").read_text(encoding="utf-8")),
        "seconds": {file.stem: json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in times},
        "val_accuracy": curve(folder, params),
    }


def curve(folder: Path, params: Params) -> list[tuple[int, str, float]]:
    """Epoch, phase and validation accuracy of a finished run."""
    history = read_checkpoint_info(folder / paths.model(params.schedule.final)).history
    return [(row["epoch"], row["phase"], row["val_accuracy"]) for row in history]


if __name__ == "__main__":
    main()
