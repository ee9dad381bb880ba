"""Seconds of `thaw sweep` with 1 and 2 experiments at once, and what of them is start-up.

    python -m bench.sweep                                          # the digits, heads only, 2 x 2
    python -m bench.sweep recipe=demo seed=0,1,2,3 --jobs 1 2 4 --threads 1

Each number of experiments at once has a fresh clone of the last commit, an empty cache and a fresh Ray. Start-up is
what passes until the first experiment has its clone and starts DVC: checks of the grid, Ray, the clone.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench import common
from tools import clones

SMALL = ["dataset=digits", "backbone=cnn", "schedule=head-only", "head.units=8,16", "seed=0,1"]


def main() -> None:
    parser = argparse.ArgumentParser(description="a sweep, by the number of experiments at once")
    parser.add_argument("overrides", nargs="*", help="of the grid, as `dvc exp run --queue -S` takes them")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of each experiment")
    parser.add_argument("--output", type=Path, default=Path("bench/results/sweep.json"))
    arguments = parser.parse_args()
    overrides = arguments.overrides or SMALL
    runs = []
    for jobs in arguments.jobs:
        runs.append(run(jobs, arguments.threads, overrides))
        print(runs[-1], flush=True)
    machine = common.machine("ray", "dvc", "keras", "tensorflow")
    settings = {"overrides": overrides, "threads": arguments.threads}
    common.write(arguments.output, {"machine": machine, "settings": settings, "runs": runs})
    print(tabulate(runs, "keys", "pipe"))


def run(jobs: int, threads: int, overrides: list[str]) -> dict[str, Any]:
    """Seconds of a sweep from an empty cache, and of its start-up."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "checkout"
        clones.clone("HEAD", folder)
        options = ["--jobs", str(jobs), "--threads", str(threads), *overrides]
        started = time.perf_counter()
        sweep = subprocess.Popen(
            [sys.executable, "-m", "thaw", "sweep", *options],
            cwd=folder, env=clones.environment(), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        begun, experiments = None, 0
        assert sweep.stdout is not None
        for line in sweep.stdout:
            if begun is None and line.endswith(": dvc\n"):
                begun = time.perf_counter() - started
            experiments += ": done: " in line
        seconds = time.perf_counter() - started
        if sweep.wait() or begun is None:
            raise SystemExit(f"bench.sweep: the sweep of {' '.join(overrides)} failed; see above")
    return {
        "jobs": jobs,
        "experiments": experiments,
        "seconds": round(seconds, 1),
        "start-up": round(begun, 1),
        "share of start-up": round(begun / seconds, 2),
        "seconds an experiment": round((seconds - begun) / experiments, 1),
    }


if __name__ == "__main__":
    main()
