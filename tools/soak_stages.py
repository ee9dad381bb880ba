"""Kills stages by the hundred, many of them in the middle of a write, and compares what they end in. Start at `soak`.

    make soak-stages KILLS=1000 SEED=0

A stage is a fork of a process that has imported all packages: it is at work at once, and a kill costs seconds. Half of
the kills (SIGKILL) come after a random time, half a moment after the stage has opened one of the files that it writes
beside and renames. Which of them hit a write is told by what it leaves, a file or a folder named by its process. After
the last stage all outputs are compared with those of a real `dvc repro` that was left alone, except for timings. A
stage that fails without a kill counts as a needed repair.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

import yaml

from tests.helpers.project import TINY, Project

# All stages with something to resume.
OVERRIDES = ["recipe=demo", *TINY, "dataset.limit=200", "head.epochs=6", "schedule.phases.all.epochs=2"]
# Kills of a stage before it may end, at most.
PER_STAGE = 12
# Files opened before a kill within a write, and seconds from there, at most.
FILES, MOMENT = 8, 0.003


def outputs(folder: Path) -> dict[str, str]:
    """Hashes of all files that dvc.lock names as outputs, by path, except for timings."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    hashes = {}
    for path in (out["path"] for stage in lock["stages"].values() for out in stage["outs"]):
        if not path.startswith("metrics/time/"):
            files = [folder / path] if (folder / path).is_file() else sorted((folder / path).rglob("*"))
            for file in filter(Path.is_file, files):
                hashes[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return hashes


def stages_of(folder: Path) -> list[str]:
    """The stages in the order in which `dvc repro` ran them."""
    return list(yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"])


class Worker:
    """Runs all stages in a clone again and again, as forks of this process, and kills them."""

    def __init__(self, folder: Path, seed: int) -> None:
        os.chdir(folder)
        os.environ.pop("DVC_STAGE", None)
        self.chance = random.Random(seed)
        self.stages, self.expected = stages_of(Path()), outputs(Path())
        self.seconds: dict[str, float] = {}
        self.hits: Counter[str] = Counter()
        self.kills = self.runs = 0
        self.wrong: list[str] = []
        _import_all()

    def work(self, kills: int) -> None:
        """Kill stages until there are so many kills; the first run is left alone, and measured."""
        while self.kills < kills and not self.wrong:
            self._clear()
            for stage in self.stages:
                left = self.chance.randint(0, PER_STAGE) if self.seconds.keys() >= {*self.stages} else 0
                if not self._finish(stage, min(left, kills - self.kills)):
                    return
            self.runs += 1
            found = outputs(Path())
            paths = found.keys() | self.expected.keys()
            self.wrong += [f"differs: {path}" for path in sorted(paths) if found.get(path) != self.expected.get(path)]
            self.wrong += [f"left behind: {path}" for path in _left(None)]

    def _clear(self) -> None:
        lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
        for out in (out for stage in lock["stages"].values() for out in stage["outs"]):
            path = Path(out["path"])
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _finish(self, stage: str, kills: int) -> bool:
        """Run a stage until it ends, killed at most so many times before; whether it ended well."""
        while True:
            started = time.perf_counter()
            process, code = self._attempt(stage, kills > 0)
            if code == 0:
                self.seconds.setdefault(stage, time.perf_counter() - started)
                return True
            if code != -signal.SIGKILL:
                self.wrong.append(f"{stage} failed: " + Path("soak.log").read_text(encoding="utf-8")[-2000:])
                return False
            kills -= 1
            self.kills += 1
            hit = sorted(_left(process))
            self.hits[_what(hit[-1]) if hit else "no write"] += 1

    def _attempt(self, stage: str, killed: bool) -> tuple[int, int]:
        """A fork that runs a stage; its number and exit code."""
        by_time = self.chance.random() < 0.5
        after, files = self.chance.uniform(0, self.seconds.get(stage, 0)), self.chance.randint(1, FILES)
        moment = self.chance.uniform(0, MOMENT)
        sys.stdout.flush()
        if not (process := os.fork()):
            _run(stage, (files, moment) if killed and not by_time else None)
        if killed and by_time:
            end = time.monotonic() + after
            while time.monotonic() < end and _status(process, os.WNOHANG | os.WNOWAIT) is None:
                time.sleep(0.005)
            os.kill(process, signal.SIGKILL)
        code = _status(process, 0)
        assert code is not None
        return process, code


def _status(process: int, options: int) -> int | None:
    """Exit code of a child, below 0 for a signal; None while it runs."""
    found = os.waitid(os.P_PID, process, os.WEXITED | options)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _import_all() -> None:
    from thaw.network.backend import prefer_onednn, quiet
    from thaw.stage import STAGES

    os.environ["KERAS_BACKEND"] = "tensorflow"
    prefer_onednn(os.environ)
    with quiet():
        for module in ("keras", "dvclive", *(stage.module for stage in STAGES.values())):
            import_module(module)


def _run(stage: str, aim: tuple[int, float] | None) -> None:
    """Run a stage, and end this process."""
    code = 1
    try:
        log = os.open("soak.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        from thaw.stage import run_stage

        if aim:
            sys.addaudithook(_Aim(*aim))
        run_stage(stage)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        print(repr(error))
    finally:
        sys.stdout.flush()
        os._exit(code)


class _Aim:
    """An audit hook that kills its process a moment after it opens the n-th file that it writes beside."""

    def __init__(self, files: int, moment: float) -> None:
        self.left, self.moment, self.mark = files, moment, f".{os.getpid()}.tmp"

    def __call__(self, event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str) and self.mark in arguments[0]:
            self.left -= 1
            if self.left == 0:
                threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        time.sleep(self.moment)
        os.kill(os.getpid(), signal.SIGKILL)


def _left(process: int | None) -> list[str]:
    """What a killed process was writing; what any was, with None."""
    return [str(path) for path in Path().rglob(f".*.{'*' if process is None else process}.tmp")]


def _what(path: str) -> str:
    """What a path is a write of, in words."""
    if path.startswith(".dvc/thaw"):
        return "saved state"
    first, *rest = Path(path).parts
    return f"{first}/{rest[0]}" if len(rest) > 1 and not rest[0].startswith(".") else first


def prepared(folder: Path, overrides: list[str]) -> Path:
    """A clone in which `dvc repro` has run everything."""
    folder.mkdir()
    project = Project(folder)
    project.run("python", "-m", "thaw", "params", *overrides)
    project.dvc("repro")
    # What DVC has linked into the cache is written anew.
    shutil.rmtree(folder / ".dvc/cache")
    return folder


def soak(folder: Path, kills: int, seed: int, workers: int, overrides: list[str]) -> dict:
    """Kill stages so many times in all, in as many clones side by side as there are workers.

    Returns:
        kills, runs, hits (kills by what they hit) and wrong (mismatches and repairs).
    """
    first = prepared(folder / "clone0", overrides)
    for number in range(1, workers):
        shutil.copytree(first, folder / f"clone{number}", symlinks=True)
    shares = [kills // workers + (number < kills % workers) for number in range(workers)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tools.soak_stages", "--worker", str(folder / f"clone{number}"),
             "--kills", str(share), "--seed", str(seed + number)],
            stdout=subprocess.PIPE, text=True,
        )
        for number, share in enumerate(shares)
    ]  # fmt: skip
    results = [json.loads(process.communicate()[0]) for process in processes]
    hits = sum((Counter(result["hits"]) for result in results), Counter())
    return {
        "kills": sum(result["kills"] for result in results),
        "runs": sum(result["runs"] for result in results),
        "hits": dict(hits.most_common()),
        "wrong": [line for result in results for line in result["wrong"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="kill stages, many of them in the middle of a write")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker = Worker(arguments.worker, arguments.seed)
        worker.work(arguments.kills)
        print(json.dumps({"kills": worker.kills, "runs": worker.runs, "hits": worker.hits, "wrong": worker.wrong}))
        return
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), arguments.kills, arguments.seed, arguments.workers, OVERRIDES)
    for what, count in result["hits"].items():
        print(f"{count:5} {what}")
    in_write = result["kills"] - result["hits"].get("no write", 0)
    print(
        f"{result['kills']} kills in {result['runs']} whole runs, {in_write} of them in the middle of a write, "
        f"{len(result['wrong'])} mismatches and repairs, {(time.perf_counter() - started) / 60:.1f} minutes"
    )
    sys.exit("\n".join(result["wrong"]) or 0)


if __name__ == "__main__":
    main()
