"""A clone of this checkout to run real commands in, as a user would."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tools import clones

ROOT = Path(__file__).parents[2]
# Few target classes, which are learned sooner, and enough source classes for a top-5 accuracy.
CLASSES = ["dataset.classes=[7,8,9]", "backbone.source.classes=[0,1,2,3,4,5,6]"]
# A head with a hidden layer, where the demo's is linear.
HIDDEN = ["head.units=64", "head.dropout=0.3", "head.learning_rate=0.001", "head.patience=5"]
# Enough to run every stage, not much learning: the top block may be worse than the head after one epoch, not after 3.
TINY = [
    *CLASSES,
    "backbone.source.epochs=1",
    "head.epochs=2",
    "schedule.phases.top.epochs=3",
    "schedule.phases.all.epochs=1",
    "augment.views=2",
]
# The demo with one phase after the head's, and fewer images: where it is enough that there is a run.
SHORT = [
    "recipe=demo", *CLASSES, "~schedule.phases.all", "schedule.final=top", "backbone.source.epochs=1", "head.epochs=2",
    "schedule.phases.top.epochs=1", "augment.views=2", "dataset.limit=200",
]  # fmt: skip
# Or with the head's phase alone.
HEAD_ONLY = ["recipe=demo", "schedule=head-only", "backbone.source.epochs=1", "head.epochs=2", "augment.views=2"]


class Project:
    """A git and DVC repository with the tracked and the new files of this checkout, committed; or a clone of one."""

    def __init__(self, folder: Path, origin: Path | None = None) -> None:
        self.folder = folder
        if origin is not None:
            self.git("clone", "--quiet", str(origin), ".")
        else:
            clones.copy(ROOT, folder)
            self.git("init", "--quiet")
        self.git("config", "user.name", "test")
        self.git("config", "user.email", "test@localhost")
        if origin is None:
            self.commit("start")

    def run(self, *command: str, check: bool = True, **variables: str) -> str:
        """Standard output and error of a command; `python` and `dvc` are those of this environment."""
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        # The tests' own backend is not the stages', nor how little it says; __pycache__ is written as on any machine.
        for name in ("KERAS_BACKEND", "PYTHONDONTWRITEBYTECODE", "TF_CPP_MIN_LOG_LEVEL"):
            environment.pop(name, None)
        result = subprocess.run(
            command, cwd=self.folder, env=environment | variables, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check:
            assert result.returncode == 0, result.stdout
        return result.stdout

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def dvc(self, *arguments: str, check: bool = True) -> str:
        return self.run("dvc", *arguments, check=check)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def exp_run(self, *overrides: str) -> str:
        return self.dvc("exp", "run", *(part for override in overrides for part in ("-S", override)))

    def would_run(self, *overrides: str) -> list[str]:
        """The stages that `dvc repro` would run with params.yaml composed from these overrides."""
        self.run("python", "-m", "thaw", "params", *overrides)
        return ran(self.dvc("repro", "--dry"))


def told(output: str) -> dict[str, list[str]]:
    """What each stage wrote, by its command, of the output of DVC."""
    parts = re.findall(r"^> python -m stages\.(.*)\n([\s\S]*?)^(?=Generating lock|Updating lock)", output, re.MULTILINE)
    return {command.replace(" ", "@"): text.splitlines() for command, text in parts}


def ran(output: str) -> list[str]:
    """The stages that DVC says it ran."""
    return re.findall(r"Running stage '(.*?)'", output)
