"""Versions that change the bits of a result: those that made it, against those that are installed."""

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
    """Versions by package, of metrics/provenance of stages; more than one where stages ran with different ones."""
    versions: Versions = {}
    for record in provenance:
        for name, value in record.get("versions", {}).items():
            versions[name] = sorted({*versions.get(name, ()), value})
    return versions


def model_versions(folder: Path) -> Versions:
    """The versions that a phase's checkpoint was made with, of models/<phase>; none where they are not recorded."""
    file = folder.parent.parent / paths.METRICS / "provenance" / f"{stage_of(folder.name)}.json"
    try:
        return recorded_versions([json.loads(file.read_text(encoding="utf-8"))])
    except (OSError, ValueError):  # a checkpoint that was moved, or a record that is damaged
        return {}


def other_versions(recorded: Versions) -> str | None:
    """What tells that a result was made by other versions than those installed; None where it was not."""
    installed = {name: _installed(name) for name in recorded}
    other = [name for name, made in recorded.items() if made != [installed[name]]]
    if not other:
        return None
    made = [f"{name} {' and '.join(recorded[name])}" for name in other]
    here = [installed[name] or f"no {name}" for name in other]
    return f"made with {_listed(made)}; installed {'is' if len(other) == 1 else 'are'} {_listed(here)}"


def _installed(name: str) -> str | None:
    if name == "python":
        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
