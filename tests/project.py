"""A clone of this checkout to run real commands in, as a user would."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Enough to run every stage, not to learn much.
TINY = [
    "backbone.source.epochs=1",
    "head.epochs=2",
    "schedule.phases.top.epochs=1",
    "schedule.phases.all.epochs=1",
    "augment.views=2",
]


class Project:
    """A git and DVC repository with the tracked and the new files of this checkout, committed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        self.git("init", "--quiet")
        self.git("config", "user.name", "test")
        self.git("config", "user.email", "test@localhost")
        self.commit("start")

    def run(self, *command: str, check: bool = True, **variables: str) -> str:
        """Standard output and error of a command; `python` and `dvc` are those of this environment."""
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        # The tests' own backend is not the stages', and __pycache__ is to be written as on any machine.
        for name in ("KERAS_BACKEND", "PYTHONDONTWRITEBYTECODE"):
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


def ran(output: str) -> list[str]:
    """The stages that DVC says it ran."""
    return re.findall(r"Running stage '(.*?)'", output)
