"""What a command would replace: named first by `name_replaced`, and kept by `keep_edits` where nothing else has it."""

import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from thaw import paths
from thaw.config.load import ParamsLoader
from thaw.config.naming import flat
from thaw.config.overrides import typed
from thaw.errors import printable

# References that git, or DVC once a run has ended, drops: stashes, the queue, and the experiment that runs.
_NOT_KEPT = ("refs/stash", "refs/exps/stash", *(f"refs/exps/{name}/*" for name in ("apply", "celery", "exec", "temp")))

# Values that the line names, at most.
_SHOWN = 5


def name_replaced(command: str, *outputs: Path) -> None:
    """Say which outputs of a command are there already, before the work that replaces them."""
    for output in outputs:
        if output.is_file():
            made = datetime.fromtimestamp(output.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
            print(f"{command}: replaces {printable(str(output))} of {made}", file=sys.stderr, flush=True)


def keep_edits(command: str, composed: dict[str, Any] | None = None) -> None:
    """Copy params.yaml to params.yaml.before, if git does not have its content, and say which values are replaced.

    git has the content of commits and of experiments. An earlier copy stays: the next is params.yaml.before-2.

    Args:
        command: that will replace params.yaml, for the line.
        composed: its new content, nested; None where there are several, as of a grid.
    """
    try:
        before = ParamsLoader(paths.PARAMS.read_text(encoding="utf-8")).get_single_data()
    except (OSError, ValueError, yaml.YAMLError) as error:
        if isinstance(error, OSError):
            return  # nothing that could be lost
        before = None
    if (composed is not None and before == composed) or _git_has(paths.PARAMS):
        return
    kept = _copy_of(paths.PARAMS)
    changed = _changed(before, composed) if isinstance(before, dict) and composed is not None else ""
    print(f"{command}: {paths.PARAMS} has edits that git does not have; kept in {kept}{changed}", file=sys.stderr)


def _git_has(path: Path) -> bool:
    """Whether a commit or an experiment has the content of a file.

    That git has an object of this content is not enough: DVC stashes the workspace before it composes parameters.
    """
    content = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True).stdout.strip()
    dropped = [f"--exclude={references}" for references in _NOT_KEPT]
    listed = subprocess.run(
        ["git", "rev-list", "--objects", *dropped, "--all", "--", str(path)], capture_output=True, text=True
    )
    return bool(content) and any(line.startswith(content) for line in listed.stdout.splitlines())


def _copy_of(path: Path) -> Path:
    """The copy beside a file, made now unless there is one with the same content."""
    content, number = path.read_bytes(), 1
    while True:
        copy = path.with_name(f"{path.name}.before" + (f"-{number}" if number > 1 else ""))
        if not copy.exists():
            shutil.copyfile(path, copy)
            return copy
        if copy.read_bytes() == content:
            return copy
        number += 1


def _changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    old, new = flat(before), flat(after)
    keys = [key for key in old | new if old.get(key, "") != new.get(key, "") or (key in old) != (key in new)]
    words = [f"{key} {_shown(old, key)} -> {_shown(new, key)}" for key in keys[:_SHOWN]]
    more = f" and {len(keys) - _SHOWN} more" if keys[_SHOWN:] else ""
    return f": {', '.join(words)}{more}" if words else ""


def _shown(values: dict[str, Any], key: str) -> str:
    return typed(values[key]) if key in values else "(none)"
