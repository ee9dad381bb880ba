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
        folder: the clone; archives are downloaded once for all clones of this checkout.
        variables: environment variables for the stages.
    """
    downloads = Path("downloads")
    downloads.mkdir(exist_ok=True)
    (folder / downloads).symlink_to(downloads.resolve())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path} | (variables or {})
    for command in (["thaw", "params", *overrides], ["dvc", "repro", "--quiet"]):
        subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=True)
