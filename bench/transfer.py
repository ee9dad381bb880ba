"""What training takes once there is a backbone: the stages after it of finished runs, again and in turn.

python -m bench.transfer class-split-0 class-split-scratch-0 class-split-1 class-split-scratch-1 ...

Each is a clone of this checkout in which a recipe has run, from the same commit. Between two whole runs of minutes a
machine changes; here what is compared stands side by side, and what it has in common is left out.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import common, runs
from thaw import paths
from thaw.config.schedule import chain_of, stage_of
from thaw.stage import read_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="clones, in the order of the runs")
    found: list[dict[str, Any]] = []
    for folder in parser.parse_args().folders:
        found.append(again(folder))
        file = Path("bench/results/transfer.json")
        common.write(file, {"machine": common.machine("tensorflow", "keras", "dvc"), "runs": found})
        spent = ", ".join(f"{stage} {value:.0f}" for stage, value in found[-1]["seconds"].items())
        best = max(value for _, _, value in found[-1]["val_accuracy"])
        total = sum(found[-1]["seconds"].values())
        print(f"{folder.name}: {total:.0f} s ({spent}), validation accuracy {best:.4f}", flush=True)


def again(folder: Path) -> dict[str, Any]:
    """Run extraction and all phases of a finished run once more; its settings, seconds by stage, and the curve."""
    chosen = read_params(folder / paths.PARAMS)
    stages = ["extract", *map(stage_of, chain_of(chosen.schedule))]
    seconds = {}
    for stage in stages:
        name, *phase = stage.split("@")
        command = [sys.executable, "-m", f"stages.{name}", *phase]
        subprocess.run(command, cwd=folder, env=os.environ | {"THAW_FRESH": "1"}, stdout=subprocess.DEVNULL, check=True)
        time = folder / paths.METRICS / "time" / f"{stage}.json"
        seconds[stage] = json.loads(time.read_text(encoding="utf-8"))["seconds"]
    return {"settings": common.settings(chosen), "seconds": seconds, "val_accuracy": runs.curve(folder, chosen)}


if __name__ == "__main__":
    main()
