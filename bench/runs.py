"""Whole runs of the pipeline, each in a clone of this checkout, and what came out of them.

python -m bench.runs schedules --seeds 0 1 --on dataset.limit=20000 ...
python -m bench.runs recipes --seeds 0 1 2 --only class-split class-split-scratch --on dataset.url=...
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import common
from thaw import checkpoint, params, paths

# As many epochs each.
SCHEDULES = {
    "head only": ["schedule=head-only", "head.epochs=20"],
    "gradual": [
        "schedule=gradual",
        "head.epochs=5",
        "schedule.phases.depth1.epochs=3",
        "schedule.phases.depth2.epochs=3",
        "schedule.phases.all.epochs=9",
    ],
    "all at once": ["schedule=full", "head.epochs=5", "schedule.phases.all.epochs=15"],
    "from scratch": ["schedule=scratch", "schedule.phases.all.epochs=20", "schedule.phases.all.patience=null"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["schedules", "recipes"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the schedules or recipes; all of them by default")
    parser.add_argument("--on", nargs="+", default=[], metavar="KEY=VALUE", help="for every run, as -S takes them")
    arguments = parser.parse_args()
    recipes = sorted(file.stem for file in (paths.CONF / "recipe").glob("*.yaml") if file.stem != "none")
    runs = SCHEDULES if arguments.what == "schedules" else {name: [f"recipe={name}"] for name in recipes}
    chosen = arguments.only or list(runs)
    if unknown := set(chosen) - set(runs):
        parser.error(f"--only: received {', '.join(sorted(unknown))}; accepted: {', '.join(runs)}")
    found = {name: [] for name in chosen}
    file = Path("bench/results") / f"{arguments.what}.json"
    for seed in arguments.seeds:
        for name in chosen:
            with tempfile.TemporaryDirectory() as folder:
                # What comes later wins: a schedule from scratch has no weights whatever `--on` says of them.
                overrides = [*arguments.on, *runs[name], f"seed={seed}"]
                if name == "from scratch":
                    overrides.append("backbone.weights=none")
                found[name].append(run(Path(folder), overrides))
            common.write(file, {"machine": machine(), "runs": found})
            print(f"{name}, seed {seed}: test accuracy {found[name][-1]['metrics']['accuracy']:.4f}", flush=True)


def machine() -> dict[str, Any]:
    return common.machine("tensorflow", "keras", "dvc")


def run(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Clone HEAD into `folder`, run the pipeline with these overrides, and collect."""
    subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    # Archives are downloaded once.
    (folder / "downloads").symlink_to(Path("downloads").resolve())
    Path("downloads").mkdir(exist_ok=True)
    for command in (["thaw", "params", *overrides], ["dvc", "repro", "--quiet"]):
        subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=True)
    return collect(folder)


def collect(folder: Path) -> dict[str, Any]:
    """Settings, metrics, seconds of each stage and the curve of a finished run."""
    chosen = params.load(folder / paths.PARAMS)
    times = sorted((folder / "metrics/time").glob("*.json"))
    return {
        "settings": common.settings(chosen),
        "metrics": json.loads((folder / paths.METRICS / "evaluate.json").read_text(encoding="utf-8")),
        "seconds": {file.stem: json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in times},
        "val_accuracy": [
            [row["epoch"], row["phase"], row["val_accuracy"]]
            for row in checkpoint.read_info(folder / paths.model(chosen.schedule.final)).history
        ],
    }


if __name__ == "__main__":
    main()
