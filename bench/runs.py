"""Whole runs of recipes, each in a clone of this checkout, and their results. Start at `main`.

A run is a file in bench/results/recipes; one whose file exists is skipped.

python -m bench.runs recipes --seeds 0 1 --on dataset.url=...
python -m bench.runs class-split class-split-scratch --seeds 0 1 2 --on dataset.url=...
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from bench import common, store
from thaw import paths
from thaw.config.schema import Params
from thaw.network.checkpoint import read_checkpoint_info
from thaw.stage import read_params
from tools import clones

# Folder of the results, and the word for all recipes.
ALL = "recipes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"a recipe, or {ALL} for all of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--on", nargs="+", default=[], metavar="KEY=VALUE", help="for every run, as -S takes them")
    parser.add_argument("--again", action="store_true", help="replace the results that are there")
    arguments = parser.parse_args()
    names = recipes() if ALL in arguments.names else arguments.names
    if unknown := set(names) - set(recipes()):
        parser.error(f"received {', '.join(sorted(unknown))}; accepted: {', '.join([ALL, *recipes()])}")
    for seed in arguments.seeds:
        for name in names:
            overrides = [*arguments.on, f"recipe={name}", f"seed={seed}"]
            measure = partial(run, name, overrides)
            result = store.once(ALL, f"{name} seed {seed}", overrides, measure, arguments.again)
            print(f"{name}, seed {seed}: test accuracy {result['metrics']['accuracy']:.4f}", flush=True)
    print(table(results()))


def recipes() -> list[str]:
    """The names of all recipes."""
    return sorted(file.stem for file in (paths.CONF / "recipe").glob("*.yaml") if file.stem != "none")


def results() -> dict[str, list[dict[str, Any]]]:
    """The finished runs of each recipe that has any, by seed."""
    finished = sorted(store.read(ALL), key=lambda result: result["settings"]["seed"])
    by_name = {name: [result for result in finished if result["name"] == name] for name in recipes()}
    return {name: runs for name, runs in by_name.items() if runs}


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Test accuracy and F1 by seed, and the seconds of all stages but download."""
    lines = ["| run | seeds | test accuracy | macro F1 | training accuracy | seconds |", "|---|---|---|---|---|---|"]
    for name, runs in found.items():
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
