"""Soak test: kills pipelines at random moments, repeatedly, and runs experiments side by side. Start at `soak`.

    make soak KILLS=50 SEED=0

Each run is a real `dvc repro` of the demo in a separate clone. It is killed after a random time or a random number of
epochs and views, the whole process group or only dvc, and started again until it ends. Then dvc.lock, except for
timings, is compared with that of an uninterrupted run. A start that fails without a kill counts as a needed repair.

At the end, four experiments are queued for two workers and compared with the same four, run one after the other.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.helpers.project import Project

RESUMED = re.compile(r"resuming from saved state")
# Messages of a stage about progress that it has saved.
WORK = re.compile(r": epoch \d+/|images/s")


@dataclass
class Count:
    """Counts of a soak test; `mismatches` and `repairs` must stay empty."""

    kills: int = 0
    runs: int = 0
    resumes: int = 0
    mismatches: list[str] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.runs} runs, {self.resumes} resumed from saved state, "
            f"{len(self.mismatches)} mismatches, {len(self.repairs)} repairs"
        )


def hashes(folder: Path) -> dict[str, str]:
    """Hashes of dvc.lock by stage and path, except for timings."""
    return _hashes((folder / "dvc.lock").read_text(encoding="utf-8"))


def _hashes(text: str) -> dict[str, str]:
    lock = yaml.safe_load(text)
    return {
        f"{name}: {entry['path']}": entry["md5"]
        for name, stage in lock["stages"].items()
        for entry in [*stage.get("deps", []), *stage["outs"]]
        if not entry["path"].startswith("metrics/time/")
    }


def _differ(expected: dict[str, str], actual: dict[str, str]) -> list[str]:
    return sorted(path for path in expected.keys() | actual.keys() if expected.get(path) != actual.get(path))


def start(folder: Path, log: Path) -> subprocess.Popen:
    """Start `dvc repro` in a separate process group."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for name in ("KERAS_BACKEND", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    with open(log, "a") as output:
        return subprocess.Popen(
            ["dvc", "repro"], cwd=folder, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip


def kill(process: subprocess.Popen, dvc_alone: bool) -> None:
    if dvc_alone:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait(process: subprocess.Popen, log: Path, longest: float, chance: random.Random) -> bool:
    """Wait some random seconds, or some random epochs and views; return whether the process still runs."""
    # A stage takes seconds to start: by time alone, most kills would hit the start.
    units = chance.randint(1, 8) if chance.random() < 0.7 else None
    end = time.monotonic() + (longest if units else chance.uniform(1, longest))
    before = log.stat().st_size
    while process.poll() is None and time.monotonic() < end:
        if units and len(WORK.findall(log.read_text(encoding="utf-8")[before:])) >= units:
            time.sleep(chance.uniform(0, 0.3))
            break
        time.sleep(0.02)
    return process.poll() is None


def run(
    folder: Path, expected: dict[str, str], kills: int, longest: float, chance: random.Random, count: Count
) -> None:
    """One run, killed at most `kills` times, each after up to `longest` seconds."""
    log = folder.with_suffix(".log")
    count.runs += 1
    while True:
        process = start(folder, log)
        if kills and wait(process, log, longest, chance):
            kill(process, dvc_alone=chance.random() < 0.5)
            kills -= 1
            count.kills += 1
            continue
        if process.wait():
            count.repairs.append(log.read_text(encoding="utf-8")[-2000:])
            return
        break
    count.resumes += len(RESUMED.findall(log.read_text(encoding="utf-8")))
    count.mismatches += [f"{folder.name}, {path}" for path in _differ(expected, hashes(folder))]


def soak(folder: Path, kills: int, seed: int, per_run: int = 5, *overrides: str) -> Count:
    """Kill runs of the demo, with overrides, `kills` times in all.

    Args:
        folder: for the clones.
        per_run: maximal number of kills in one run.
    """

    def project(name: str) -> Path:
        (folder / name).mkdir()
        clone = Project(folder / name)
        clone.run("python", "-m", "thaw", "params", "recipe=demo", *overrides)
        return clone.folder

    left_alone = project("left-alone")
    started = time.perf_counter()
    assert start(left_alone, left_alone.with_suffix(".log")).wait() == 0
    longest = time.perf_counter() - started
    expected = hashes(left_alone)
    count, chance = Count(), random.Random(seed)
    while count.kills < kills:
        before = count.kills
        run(project(f"run{count.runs}"), expected, min(per_run, kills - before), longest, chance, count)
        print(count, flush=True)
        if count.repairs or count.mismatches:
            break
    return count


def side_by_side(folder: Path, count: int, *overrides: str) -> list[str]:
    """Differences between experiments of two workers and the same ones, run one after the other in another clone.

    Args:
        count: number of experiments, each with another seed.
    """
    for name in ("queued", "alone"):
        (folder / name).mkdir()
    queued, alone = Project(folder / "queued"), Project(folder / "alone")

    def run(project: Project, seed: int, *options: str) -> None:
        settings = (part for override in ("recipe=demo", *overrides, f"seed={seed}") for part in ("-S", override))
        project.dvc("exp", "run", *options, "--name", f"seed{seed}", *settings)

    for seed in range(count):
        run(queued, seed, "--queue")
    queued.dvc("queue", "start", "--jobs", "2")
    while re.search(r"Queued|Running", queued.dvc("queue", "status")):
        time.sleep(1)
    differ = []
    for seed in range(count):
        run(alone, seed)
        expected = hashes(alone.folder)
        commit = queued.git("rev-parse", "HEAD").strip()
        queued_hashes = _hashes(queued.git("show", f"refs/exps/{commit[:2]}/{commit[2:]}/seed{seed}:dvc.lock"))
        differ += [f"seed {seed}, {path}" for path in _differ(expected, queued_hashes)]
    return differ


def main() -> None:
    parser = argparse.ArgumentParser(description="kill the demo at random moments", epilog="make soak KILLS=50 SEED=0")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        count = soak(Path(folder), arguments.kills, arguments.seed)
        print(f"{count}, {(time.perf_counter() - started) / 60:.1f} minutes", flush=True)
        differ = side_by_side(Path(folder), 4)
        print(f"4 experiments side by side, {len(differ)} mismatches")
        sys.exit("\n".join([*count.mismatches, *count.repairs, *differ]) or 0)


if __name__ == "__main__":
    main()
