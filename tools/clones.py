"""Clones and copies of this checkout, and whole runs of the pipeline in them. Start at `clone` and `run`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def clone(revision: str, folder: Path) -> str:
    """Clone this checkout at a revision into an empty folder; return the commit."""
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", ".", str(folder)], check=True)
    # Resolved in the checkout: a clone has only its current branch.
    command = ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    commit = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    subprocess.run(["git", "checkout", "--quiet", "--detach", commit], cwd=folder, check=True)
    return commit


def head(checkout: Path) -> str:
    """The commit that is checked out."""
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def copy(checkout: Path, folder: Path) -> None:
    """Copy the tracked and the untracked files of a checkout, without outputs and history."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (checkout / name).is_file():  # not deleted
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkout / name, folder / name)


def run(folder: Path, overrides: list[str], variables: Mapping[str, str] | None = None) -> None:
    """Compose conf/ with overrides, as `-S` takes them, and run all stages in a clone.

    Args:
        folder: the clone.
        variables: environment variables for the stages.
    """
    compose(folder, overrides)
    repro(folder, variables=variables)


def compose(folder: Path, overrides: list[str]) -> None:
    """Compose a clone's conf/ with overrides into its params.yaml."""
    command = [sys.executable, "-m", "thaw", "params", *overrides]
    subprocess.run(command, cwd=folder, env=environment(), check=True)


def repro(folder: Path, target: str | None = None, variables: Mapping[str, str] | None = None) -> None:
    """Run all stages in a clone, or those up to a target; all clones of this checkout share its downloads."""
    downloads, link = Path("downloads"), folder / "downloads"
    downloads.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(downloads.resolve())
    command = [sys.executable, "-m", "dvc", "repro", "--quiet", *([target] if target else [])]
    subprocess.run(command, cwd=folder, env=environment() | (variables or {}), check=True)


def environment() -> dict[str, str]:
    """The environment in which `python` is this interpreter, as the stages call it."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
