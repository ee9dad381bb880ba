"""How to have a set of parameters composed again: the values to give with -S."""

import re
import tempfile
from pathlib import Path
from typing import Any

from thaw import paths
from thaw.config.compose import compose_params
from thaw.config.naming import flat, parse_yaml, schedule_word
from thaw.errors import ThawError

# Not to be set: conf/ computes it.
_COMPUTED = "backbone.weights_file"


def composed(overrides: list[str], conf: Path = paths.CONF) -> dict[str, Any]:
    """What conf/ composes to, nested."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / paths.PARAMS
        compose_params(overrides, output, conf)
        return parse_yaml(output.read_text(encoding="utf-8"))


def overrides_for(params: dict[str, Any], conf: Path = paths.CONF) -> list[str] | None:
    """The fewest values found that conf/ composes these parameters with; None where none do.

    A recipe, with another schedule or not, or the groups dataset, backbone, augment and schedule first, then single
    values.
    """
    tried = []
    for groups in _groups(params, conf):
        try:
            tried.append(groups + _differences(composed(groups, conf), params))
        except ThawError:  # the recipe needs a choice that is another here
            continue
    for found in sorted(tried, key=len):
        try:
            if flat(composed(found, conf)) == flat(params):
                return found
        except ThawError:  # Hydra has no words for one of the values
            continue
    return None


def _groups(params: dict[str, Any], conf: Path) -> list[list[str]]:
    """Choices worth trying: recipes of that backbone, and the groups by their names with each augmentation."""
    backbone, dataset = params["backbone"]["name"], params["dataset"]["name"]
    schedules = {file.stem for file in (conf / "schedule").glob("*.yaml")}
    schedule = schedule_word(params, conf)
    schedule = schedule if schedule in schedules else "head-only"
    chosen = [
        [f"recipe={file.stem}", *other]
        for file in sorted((conf / "recipe").glob("*.yaml"))
        if re.search(rf"override /backbone: {re.escape(backbone)}\b", file.read_text(encoding="utf-8"))
        for other in ([], [f"schedule={schedule}"])
    ]
    usual = parse_yaml((conf / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    defaults = {f"{group}={name}" for choice in usual if isinstance(choice, dict) for group, name in choice.items()}
    common = [f"dataset={dataset}", f"backbone={backbone}", f"schedule={schedule}"]
    for augment in sorted((conf / "augment").glob("*.yaml")):
        chosen.append([group for group in [*common, f"augment={augment.stem}"] if group not in defaults])
    return chosen


def _differences(base: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """What turns one set of parameters into another, as -S takes it."""
    found = []
    for key, value in wanted.items():
        name = f"{prefix}{key}"
        if name == _COMPUTED:
            continue
        if key not in base:
            found.append(f"+{name}={_typed(value)}")
        elif isinstance(value, dict) and value and isinstance(base[key], dict):
            found += _differences(base[key], value, f"{name}.")
        elif base[key] != value:
            found.append(f"{name}={_typed(value)}")
    return found + [f"~{prefix}{key}" for key in base if key not in wanted]


def _typed(value: Any) -> str:
    """A value in Hydra's words."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_typed(its)}" for key, its in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_typed, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and (not re.fullmatch(r"[\w./][\w./:-]*", value) or parse_yaml(value) != value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)
