"""Versions of the packages that made a result, compared with the installed ones. Start at `other_versions`."""

import json
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from thaw import paths
from thaw.config.schedule import stage_of

Versions = dict[str, list[str]]


def recorded_versions(provenance: Iterable[dict[str, Any]]) -> Versions:
    """Versions by package, from metrics/provenance of stages; several where stages ran with different ones."""
    by_package: Versions = {}
    for record in provenance:
        for name, value in record.get("versions", {}).items():
            by_package[name] = sorted({*by_package.get(name, ()), value})
    return by_package


def model_versions(folder: Path) -> Versions:
    """Versions that made the checkpoint models/<phase>; empty where they are not recorded."""
    return stage_versions(stage_of(folder.name), folder.parent.parent)


def stage_versions(stage: str, root: Path = Path()) -> Versions:
    """Versions that a stage last ran with; empty where they are not recorded."""
    file = root / paths.METRICS / "provenance" / f"{stage}.json"
    try:
        return recorded_versions([json.loads(file.read_text(encoding="utf-8"))])
    except (OSError, ValueError):  # a moved checkpoint, a stage that has not run, or a damaged record
        return {}


def other_versions(recorded: Versions) -> str | None:
    """A clause that names the differing versions; None where the installed versions made the result."""
    installed = {name: _installed(name) for name in recorded}
    differing = [name for name, values in recorded.items() if values != [installed[name]]]
    if not differing:
        return None
    before = [f"{name} {' and '.join(recorded[name])}" for name in differing]
    now = [installed[name] or f"no {name}" for name in differing]
    return f"made with {_listed(before)}; installed {'is' if len(differing) == 1 else 'are'} {_listed(now)}"


def _installed(name: str) -> str | None:
    if name == "python":
        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
