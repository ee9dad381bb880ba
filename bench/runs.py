"""Whole runs of recipes and of schedules, each in a clone of this checkout, and their results. Start at `main`.

A run is a file in bench/results/recipes, or in the folder of its comparison (`COMPARED`); one whose file exists is
skipped.

python -m bench.runs recipes --seeds 0 1 --on dataset.url=...
python -m bench.runs class-split class-split-scratch --seeds 0 1 2 --on dataset.url=...
python -m bench.runs robustness --seeds 0 1 --on dataset.url=... backbone.weights=...
python -m bench.runs frozen augmentation --on dataset.url=... backbone.weights=...
python -m bench.runs story --seeds 0 1 2
python -m bench.runs vgg16-gradual --in runs --on dataset.url=... backbone.weights=...

The runs of robustness also classify corrupted test images. They check a claim of Kumar et al., "Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution" (2022): training the head first, and then all, is more robust
than training all at once. Those of frozen and of augmentation check claims of the published systems: that frozen lower
layers prevent over-fitting, and that augmentation helps. Those of the story are of the demo: what its head alone
reaches, and what thawing gains.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from bench import common, store
from thaw import paths
from thaw.app.experiments import format_interval, interval_of
from thaw.config.schema import Params
from thaw.evaluation.scores import describe_accuracy
from thaw.network.checkpoint import read_checkpoint_info
from thaw.runtime.tables import read_table
from thaw.stage import read_params
from tools import clones

# Folder of the results, and the word for all recipes.
ALL = "recipes"

# Folders of the results, and the words for runs that are compared: the overrides of all, and of each by its name.
ROBUSTNESS, FROZEN, AUGMENTATION, STORY = "robustness", "frozen", "augmentation", "story"
AT_ONCE = ["schedule=full", "head.epochs=0", "augment.views=1", "schedule.phases.all.epochs=10"]
COMPARED = {
    ROBUSTNESS: (
        ["recipe=mobilenetv2-gradual", "evaluate.corruptions=true"],
        {
            "head-only": ["schedule=head-only"],
            "gradual": ["schedule=recipe/mobilenetv2-gradual"],
            "full": ["schedule=full"],
            # All from an untrained head, which reads no stored view.
            "at-once": ["schedule=full", "head.epochs=0", "augment.views=1"],
        },
    ),
    FROZEN: (
        ["recipe=cifar100-mobilenetv2", "dataset.limit=10000"],
        {f"layers-{layers}": [f"schedule.phases.layers50.layers={layers}"] for layers in (0, 50, 100)},
    ),
    AUGMENTATION: (
        ["recipe=resnet50-finetune", "dataset.limit=5000"],
        {"augmented": [], "as-they-are": ["augment=none"]},
    ),
    STORY: (
        ["recipe=demo"],
        {
            "head": ["schedule=head-only"],
            "head-twice": ["schedule=head-only", "head.epochs=120"],
            "gradual": [],
            "too-fast": [f"schedule.phases.{phase}.learning_rate=0.01" for phase in ("top", "all")],
            # As many epochs of thawed blocks as gradual has.
            "at-once": AT_ONCE,
            # The mistake that freezing prevents: nothing is frozen while the head learns at its rate.
            "too-early": [*AT_ONCE, "schedule.phases.all.learning_rate=0.03"],
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = (f"{bench} for {', '.join(of_name)}" for bench, (_, of_name) in COMPARED.items())
    words = f"{ALL} for all of them, {', or '.join(sets)}"
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"a recipe, {words}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--on", nargs="+", default=[], metavar="KEY=VALUE", help="for every run, as -S takes them")
    words = "run in clones that stay there: a run that was cut off goes on from its last epoch"
    parser.add_argument("--in", dest="kept", type=Path, metavar="FOLDER", help=words)
    parser.add_argument("--again", action="store_true", help="replace the results that are there")
    arguments = parser.parse_args()
    accepted = [ALL, *COMPARED, *recipes()]
    if unknown := set(arguments.names) - set(accepted):
        parser.error(f"received {', '.join(sorted(unknown))}; accepted: {', '.join(accepted)}")
    for seed in arguments.seeds:
        for bench, name, of_name in planned(arguments.names):
            overrides = [*arguments.on, *of_name, f"seed={seed}"]
            folder = arguments.kept / store.slug(f"{bench} {name} seed {seed}") if arguments.kept else None
            measure = partial(run, name, overrides, folder)
            result = store.once(bench, f"{name} seed {seed}", overrides, measure, arguments.again)
            print(f"{name}, seed {seed}: test {describe_accuracy(result['metrics'])}", flush=True)
    print(table(results()))
    for bench in COMPARED:
        told = robustness_table if bench == ROBUSTNESS else table
        if compared := by_name(store.read(bench), list(COMPARED[bench][1])):
            print("", told(compared), sep="\n")


def planned(names: list[str]) -> list[tuple[str, str, list[str]]]:
    """Folder of the results, name and overrides of each run, for names of recipes, ALL and those of COMPARED."""
    of_recipes = recipes() if ALL in names else [name for name in names if name not in COMPARED]
    runs = [(ALL, name, [f"recipe={name}"]) for name in of_recipes]
    for bench, (of_all, of_each) in COMPARED.items():
        if bench in names:
            runs += [(bench, name, [*of_all, *of_name]) for name, of_name in of_each.items()]
    return runs


def recipes() -> list[str]:
    """The names of all recipes but photos, which learns from the user's images."""
    found = {file.stem for file in (paths.CONF / "recipe").glob("*.yaml")}
    return sorted(found - {"none", "photos"})


def results() -> dict[str, list[dict[str, Any]]]:
    """The finished runs of each recipe that has any, by seed."""
    return by_name(store.read(ALL), recipes())


def by_name(finished: list[dict[str, Any]], names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The runs of each name that has any, by seed."""
    seeded = sorted(finished, key=lambda result: result["settings"]["seed"])
    found = {name: [result for result in seeded if result["name"] == name] for name in names}
    return {name: runs for name, runs in found.items() if runs}


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Test accuracy with its 95 % interval and F1 by seed, and the seconds of all stages but download."""
    titles = ["run", "seeds", "test accuracy", "95 % interval", "macro F1", "training accuracy", "seconds"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name, runs in found.items():
        columns = [
            ", ".join(str(result["settings"]["seed"]) for result in runs),
            *_test_columns([result["metrics"] for result in runs]),
            _each(result["metrics"]["train_accuracy"] for result in runs),
            ", ".join(f"{seconds(result):.0f}" for result in runs),
        ]
        lines.append(f"| {name} | {' | '.join(columns)} |")
        if "source" in runs[0]["metrics"]:
            for key, words in (("source", "its source task"), ("source_after", "its source task, after the transfer")):
                lines.append(f"| {words} | | {' | '.join(_test_columns([run['metrics'][key] for run in runs]))} | | |")
    return "\n".join(lines)


def robustness_table(found: dict[str, list[dict[str, Any]]]) -> str:
    """By seed: test accuracy, its mean over all corruptions and strengths, and the mean of each corruption."""
    names = list(dict.fromkeys(row["corruption"] for runs in found.values() for row in runs[0]["corruptions"]))
    titles = ["run", "seeds", "test accuracy", "corrupted", *names]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for name, runs in found.items():
        columns = [
            ", ".join(str(result["settings"]["seed"]) for result in runs),
            *(_each(result["metrics"][key] for result in runs) for key in ("accuracy", "accuracy_corrupted")),
            *(_each(_mean_under(corruption, result["corruptions"]) for result in runs) for corruption in names),
        ]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(lines)


def _mean_under(corruption: str, rows: list[dict[str, Any]]) -> float:
    """The mean accuracy over the strengths of a corruption."""
    return statistics.mean(row["accuracy"] for row in rows if row["corruption"] == corruption)


def _test_columns(scores: list[dict[str, float]]) -> list[str]:
    """Accuracy, its interval (a dash for runs of before there were intervals) and F1, each by seed."""
    intervals = (format_interval(interval_of(each)) for each in scores)
    accuracy, f1 = (_each(each[key] for each in scores) for key in ("accuracy", "macro_f1"))
    return [accuracy, ", ".join(intervals), f1]


def _each(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def seconds(run: dict[str, Any]) -> float:
    """Seconds of all stages but download."""
    return sum(value for stage, value in run["seconds"].items() if stage != "download")


def run(name: str, overrides: list[str], kept: Path | None = None) -> dict[str, Any]:
    """Run the pipeline with these overrides in a clone of HEAD, and collect.

    Args:
        kept: folder of the clone, which stays; one of a run that was cut off goes on. None for a temporary one.
    """
    with nullcontext(kept) if kept else tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        if not (folder / ".git").exists():
            clones.clone("HEAD", folder)
        elif clones.head(folder) != clones.head(Path()):
            sys.exit(f"{folder}: a clone of commit {clones.head(folder)[:7]}; accepted: of HEAD, or none")
        clones.run(folder, overrides)
        return {"name": name, **collect(folder)}


def collect(folder: Path) -> dict[str, Any]:
    """Settings, metrics, seconds of each stage, curve, and accuracy under corruptions where that was measured."""
    params = read_params(folder / paths.PARAMS)
    times = sorted((folder / "metrics/time").glob("*.json"))
    return {
        "settings": common.settings(params),
        "metrics": json.loads((folder / paths.METRICS / "evaluate.json").read_text(encoding="utf-8")),
        "seconds": {file.stem: json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in times},
        "val_accuracy": curve(folder, params),
    } | ({"corruptions": corruptions(folder)} if params.evaluate.corruptions else {})


def corruptions(folder: Path) -> list[dict[str, Any]]:
    """Corruption, strength and accuracy, of a finished run."""
    return [
        {"corruption": row["corruption"], "strength": int(row["strength"]), "accuracy": float(row["accuracy"])}
        for row in read_table(folder / paths.TABLES / "corruptions.csv")
    ]


def curve(folder: Path, params: Params) -> list[tuple[int, str, float]]:
    """Epoch, phase and validation accuracy of a finished run."""
    history = read_checkpoint_info(folder / paths.model(params.schedule.final)).history
    return [(row["epoch"], row["phase"], row["val_accuracy"]) for row in history]


if __name__ == "__main__":
    main()
