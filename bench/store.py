"""Results of finished runs: one file each, bench/results/<bench>/<run>.json. Start at `once`."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import common
from tools import clones

RESULTS = Path("bench/results")

Result = dict[str, Any]


def once(bench: str, run: str, overrides: list[str], measure: Callable[[], Result], again: bool = False) -> Result:
    """The result of a run: measured and written, or read where its file exists.

    Args:
        bench: folder of the results, below bench/results.
        run: name of the run; words become a file name.
        overrides: the run's parameters, as `-S` takes them; a run of the same name and of others is refused.
        measure: runs it.
        again: run it also where its file exists.

    Returns:
        What `measure` returns, with the commit, whether the checkout had other changes, the machine, and the overrides.
    """
    file = RESULTS / bench / f"{slug(run)}.json"
    asked = without_paths(overrides)
    if file.exists() and not again:
        result = json.loads(file.read_text(encoding="utf-8"))
        if result["overrides"] not in (None, asked):
            sys.exit(
                f"{file}: was made with {' '.join(result['overrides'])}; asked for: {' '.join(asked)}. "
                "--again replaces it"
            )
        print(f"{file}: skipped, exists since {made_at(result)}; --again replaces it", flush=True)
        return result
    result = _commit() | {"overrides": asked, "machine": common.machine(*common.PACKAGES)} | measure()
    common.write(file, result)
    return result


def read(bench: str) -> list[Result]:
    """The results of all finished runs, by file name."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted((RESULTS / bench).glob("*.json"))]


def slug(name: str) -> str:
    """A name in letters, digits, points and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def without_paths(overrides: list[str]) -> list[str]:
    """Overrides to record, without paths of this machine."""
    return [re.sub(r"=.*[/\\].*", "=a file", override) for override in overrides]


def made_at(result: Result) -> str:
    """The commit that made a result, in words."""
    if result["commit"] is None:
        return "a commit that was not recorded"
    return f"commit {result['commit'][:7]}{' with other changes' if result['dirty'] else ''}"


def _commit() -> Result:
    """The checkout's commit, and whether tracked files outside bench/results differ from it."""
    commit = clones.head(Path())
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
    return {"commit": commit, "dirty": bool(changed)}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
