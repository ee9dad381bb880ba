"""What parameters are called in tables: dotted names, and a schedule by one word."""

from functools import cache
from pathlib import Path
from typing import Any

from thaw import paths


def flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by dotted name; lists and empty mappings are values."""
    found: dict[str, Any] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return found


def parse_yaml(text: str) -> Any:
    """YAML as DVC reads it, for which 1e-5 is a number."""
    from dvc.utils.serialize import parse_yaml

    return parse_yaml(text, "")


def schedule_word(params: dict[str, Any], conf: Path = paths.CONF) -> str:
    """A word for a schedule: the file of conf/schedule whose phases have the same names, order and depths.

    Where several have (full and scratch), the one with the fewest other values changed.

    Args:
        params: all of params.yaml, nested.

    Returns:
        The file's name, or the phases in their order, as in head+top+all.
    """
    chosen = params.get("schedule") or {}
    structure, values = _structure(chosen), flat(params)
    same = [
        (sum(values.get(name) != value for name, value in literals.items()), name)
        for name, theirs, literals in _shipped(conf)
        if theirs == structure
    ]
    return min(same)[1] if same else "+".join(["head", *(chosen.get("phases") or {})])


def _structure(chosen: dict[str, Any]) -> tuple:
    phases = (chosen.get("phases") or {}).items()
    return chosen.get("final"), tuple(
        (name, str(phase.get("after")), str(phase.get("depth")), str(phase.get("layers"))) for name, phase in phases
    )


@cache
def _shipped(conf: Path) -> list[tuple[str, tuple, dict[str, Any]]]:
    """Of each schedule in conf/: its name, its structure, and its values but for those taken from elsewhere."""
    found = []
    for file in sorted((conf / "schedule").glob("*.yaml")):
        content = parse_yaml(file.read_text(encoding="utf-8")) or {}
        if "schedule" not in content:
            content = {"schedule": content}
        literals = {name: value for name, value in flat(content).items() if "${" not in str(value)}
        found.append((file.stem, _structure(content["schedule"]), literals))
    return found
