"""Seconds of `thaw sweep` with 1, 2 and 4 experiments at once, what of them is start-up, and a model of them.

    python -m bench.sweep                                          # the digits, heads only, 2 x 2
    python -m bench.sweep recipe=demo seed=0,1,2,3 --jobs 1 2 4 --threads 1

Each number of experiments at once has a fresh clone of the last commit, an empty cache and a fresh Ray. Start-up is
what passes until the first experiment has its clone and starts DVC: checks of the grid, Ray, the clone. Seconds of the
processor are those of all processes of the machine, over all cores: nothing else is to run.

A model of the time, from the run with one experiment at once: start-up, and then what is left of its seconds divided by
the number at once or, if that is smaller, by what all cores are worth (`bench.workers` measures it).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench import common
from tools import clones

SMALL = ["dataset=digits", "backbone=cnn", "schedule=head-only", "head.units=8,16", "seed=0,1"]


def main() -> None:
    parser = argparse.ArgumentParser(description="a sweep, by the number of experiments at once")
    parser.add_argument("overrides", nargs="*", help="of the grid, as `dvc exp run --queue -S` takes them")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--threads", type=int, default=1, help="of each experiment")
    words = "times as much as one core that all cores do, as bench.workers tells; by default their number"
    parser.add_argument("--worth", type=float, help=words)
    parser.add_argument("--output", type=Path, default=Path("bench/results/sweep.json"))
    arguments = parser.parse_args()
    overrides = arguments.overrides or SMALL
    runs = []
    for jobs in arguments.jobs:
        runs.append(run(jobs, arguments.threads, overrides))
        print(runs[-1], flush=True)
    machine = common.machine("ray", "dvc", "keras", "tensorflow")
    settings = {"overrides": overrides, "threads": arguments.threads, "worth": arguments.worth or machine["cores"]}
    if 1 in arguments.jobs:
        for run_of, seconds in zip(runs, modelled(runs, settings["worth"]), strict=True):
            run_of["model"] = seconds
    common.write(arguments.output, {"machine": machine, "settings": settings, "runs": runs})
    print(table(runs))


def run(jobs: int, threads: int, overrides: list[str]) -> dict[str, Any]:
    """Seconds of a sweep from an empty cache, and of its start-up."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "checkout"
        clones.clone("HEAD", folder)
        options = ["--jobs", str(jobs), "--threads", str(threads), *overrides]
        started, before = time.perf_counter(), _processor_seconds()
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
        processor = _processor_seconds() - before
        if sweep.wait() or begun is None:
            raise SystemExit(f"bench.sweep: the sweep of {' '.join(overrides)} failed; see above")
    return {
        "jobs": jobs,
        "experiments": experiments,
        "seconds": round(seconds, 1),
        "start-up": round(begun, 1),
        "share of start-up": round(begun / seconds, 2),
        "seconds an experiment": round((seconds - begun) / experiments, 1),
        "processor": round(processor, 1),
    }


def _processor_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.system


def table(runs: list[dict[str, Any]]) -> str:
    """The runs in Markdown."""
    columns = {"at once": "jobs", "s": "seconds", "by the model": "model", "of it start-up": "start-up"}
    columns["s of the processors"] = "processor"
    lines = [columns, ["---"] * len(columns), *([run.get(key, "") for key in columns.values()] for run in runs)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def modelled(runs: list[dict[str, Any]], worth: float) -> list[float]:
    """Seconds of each run by the model, from those of one with one experiment at once."""
    (one,) = (run for run in runs if run["jobs"] == 1)
    left = one["seconds"] - one["start-up"]
    return [round(one["start-up"] + left / min(run["jobs"], worth), 1) for run in runs]


if __name__ == "__main__":
    main()
