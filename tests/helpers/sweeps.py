"""Sweeps of a short pipeline, on hosts that share nothing but a DVC remote: nodes of a Ray cluster on this machine."""

import subprocess
import sys
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.helpers.project import Project
from thaw.app.sweep import work

Experiment = tuple[int, int, float]
# Stages of the pipeline that make a head; those that a test of a sweep can do without cost as much again.
STAGES = ("download", "preprocess", "backbone", "extract", "train_head")
BASE = ["dataset=digits", "backbone=cnn", "schedule=head-only"]
SMALL = ["dataset.limit=100", "batch_size=16", "min_steps=0", "head.epochs=2", "augment.views=1"]
GRID = [*BASE, "head.units=8,16", "seed=0,1"]
# The same with the default rate and another one; experiments of it, by units, seed and rate.
CUBE = [*GRID, "head.learning_rate=0.001,0.01"]
EXPERIMENTS = list(product((8, 16), (0, 1), (0.001, 0.01)))
OF_GRID = [key for key in EXPERIMENTS if key[2] == 0.001]


def short_pipeline(folder: Path) -> Project:
    """A checkout whose pipeline ends with the head."""
    project = Project(folder)
    file = folder / "dvc.yaml"
    stages = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]
    file.write_text(yaml.safe_dump({"stages": {name: stages[name] for name in STAGES}}), encoding="utf-8")
    project.commit("a short pipeline")
    return project


def run_one_by_one(project: Project, experiments: list[Experiment]) -> None:
    """Run experiments without a sweep, with a thread each."""
    for units, seed, rate in experiments:
        sets = [*BASE, *SMALL, f"head.units={units}", f"seed={seed}", f"head.learning_rate={rate}"]
        options = [part for override in sets for part in ("-S", override)]
        project.run("dvc", "exp", "run", "--temp", *options, **dict.fromkeys(work.THREADS, "1"))


def made_by(project: Project) -> dict[Experiment, dict[str, str]]:
    """For each experiment that has run, in the order of EXPERIMENTS, the hashes of all outputs by path."""
    found = {}
    for reference in project.git("for-each-ref", "--format=%(refname)", "refs/exps/*/*/*").split():
        if "/exec/" not in reference:
            params = yaml.safe_load(project.git("show", f"{reference}:params.yaml"))
            lock = yaml.safe_load(project.git("show", f"{reference}:dvc.lock"))
            outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
            key = params["head"]["units"], params["seed"], params["head"]["learning_rate"]
            found[key] = {out["path"]: out["md5"] for out in outs}
    return {key: found[key] for key in sorted(found)}


def computed(made: dict[Experiment, dict[str, str]]) -> dict[Experiment, dict[str, str]]:
    """The hashes of what is not a timing."""
    return {
        key: {path: md5 for path, md5 in outs.items() if not path.startswith("metrics/time/")}
        for key, outs in made.items()
    }


def times(made: dict[str, str]) -> dict[str, str]:
    """The hashes of timings, by stage: equal ones are of one run of the stage."""
    return {Path(path).stem: md5 for path, md5 in made.items() if path.startswith("metrics/time/")}


def start_sweep(project: Project, grid: list[str], output: Path, *options: str) -> subprocess.Popen:
    """Start `thaw sweep` over a grid, with a thread for each experiment."""
    environment = work.environment(1)
    for name in ("KERAS_BACKEND", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    sets = [part for override in [*grid, *SMALL] for part in ("-S", override)]
    with open(output, "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "thaw", "sweep", "--threads", "1", *options, *sets], cwd=project.folder,
            env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip


def worker_above(processes: list[psutil.Process], words: str) -> psutil.Process | None:
    """The worker of Ray above one of the processes that has these words in its command."""
    for process in processes:
        with suppress(psutil.Error, StopIteration):
            if words in " ".join(process.cmdline()):
                leash = next(up for up in [process, *process.parents()] if "thaw.app.sweep.leash" in up.cmdline())
                return leash.parent()
    return None


class Hosts:
    """A Ray cluster of nodes with a folder each.

    Attributes:
        nodes: by their folders; the first is the head.
    """

    def __init__(self, *folders: Path) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster()
        self.nodes: dict[Path, Any] = {}
        for folder in folders:
            self.add(folder)

    @property
    def address(self) -> str:
        """HOST:PORT of the head."""
        return self._cluster.address

    def add(self, folder: Path) -> None:
        """Start a node, the head first."""
        folder.mkdir(exist_ok=True)
        self.nodes[folder] = self._cluster.add_node(
            num_cpus=1, num_gpus=0, include_dashboard=False, env_vars={work.FOLDER: str(folder)}
        )

    def lose(self, folder: Path) -> None:
        """Kill all processes of Ray on a node."""
        node = self.nodes.pop(folder)
        processes = [psutil.Process(process.pid) for _, process in node.live_processes()]
        started = [child for process in processes for child in process.children(recursive=True)]
        self._cluster.remove_node(node, allow_graceful=False)
        for process in started:  # an actor would go on for a moment
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def __enter__(self) -> "Hosts":
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster.shutdown()
