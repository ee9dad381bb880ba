"""Seconds of training from an existing backbone: its later stages in finished runs, run again. Start at `again`.

python -m bench.transfer class-split-0 class-split-scratch-0 class-split-1 class-split-scratch-1 ...

Each argument is a clone of this checkout in which a recipe has run, from the same commit. A machine changes its speed
between whole runs of minutes; here the compared stages run one after the other, without the stages they share.
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
    results: list[dict[str, Any]] = []
    for folder in parser.parse_args().folders:
        results.append(again(folder))
        file = Path("bench/results/transfer.json")
        common.write(file, {"machine": common.machine("tensorflow", "keras", "dvc"), "runs": results})
        spent = ", ".join(f"{stage} {value:.0f}" for stage, value in results[-1]["seconds"].items())
        best = max(value for _, _, value in results[-1]["val_accuracy"])
        total = sum(results[-1]["seconds"].values())
        print(f"{folder.name}: {total:.0f} s ({spent}), validation accuracy {best:.4f}", flush=True)


def again(folder: Path) -> dict[str, Any]:
    """Run extraction and all phases of a finished run again; return settings, seconds by stage, and the curve."""
    params = read_params(folder / paths.PARAMS)
    stages = ["extract", *map(stage_of, chain_of(params.schedule))]
    seconds = {}
    for stage in stages:
        name, *phase = stage.split("@")
        command = [sys.executable, "-m", f"stages.{name}", *phase]
        subprocess.run(command, cwd=folder, env=os.environ | {"THAW_FRESH": "1"}, stdout=subprocess.DEVNULL, check=True)
        time = folder / paths.METRICS / "time" / f"{stage}.json"
        seconds[stage] = json.loads(time.read_text(encoding="utf-8"))["seconds"]
    return {"settings": common.settings(params), "seconds": seconds, "val_accuracy": runs.curve(folder, params)}


if __name__ == "__main__":
    main()
