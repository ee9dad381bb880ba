"""The values of -S that compose a set of parameters again."""

import re
from pathlib import Path
from typing import Any

from thaw import paths
from thaw.config.compose import compose
from thaw.config.naming import flat, parse_yaml
from thaw.errors import ThawError

# Groups of conf/ whose file is named in the parameters; a backbone brings its usual head.
GROUPS = ("dataset", "backbone", "head", "augment", "schedule")
# Not to be set: conf/ computes it.
_COMPUTED = ("backbone.weights_file", "dataset.files")


def overrides_for(params: dict[str, Any], conf: Path = paths.CONF) -> list[str] | None:
    """The values of -S that conf/ composes these parameters with: recipe and groups by their names, then single values.

    Returns:
        None where there are none, as where conf/ has another content by now.
    """
    overrides: list[str] = []
    try:
        base = compose(overrides, conf)
        if params["recipe"] != base["recipe"]:
            overrides.append(f"recipe={params['recipe']}")
            base = compose(overrides, conf)
        for group in GROUPS:
            if params[group]["name"] != base[group]["name"]:
                overrides.append(f"{group}={params[group]['name']}")
                base = compose(overrides, conf)
        overrides += _differences(base, params)
        return overrides if flat(compose(overrides, conf)) == flat(params) else None
    except ThawError:  # conf/ has no such file, or Hydra has no words for one of the values
        return None


def _differences(base: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """The values of -S that turn one set of parameters into another."""
    differences = []
    for key, value in wanted.items():
        name = f"{prefix}{key}"
        if name in _COMPUTED:
            continue
        if key not in base:
            differences.append(f"+{name}={typed(value)}")
        elif isinstance(value, dict) and value and isinstance(base[key], dict):
            differences += _differences(base[key], value, f"{name}.")
        elif base[key] != value:
            differences.append(f"{name}={typed(value)}")
    return differences + [f"~{prefix}{key}" for key in base if key not in wanted]


def typed(value: Any) -> str:
    """A value as it is typed after `KEY=`, in the grammar of Hydra."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{typed(its)}" for key, its in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(typed, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and (not re.fullmatch(r"[\w./][\w./:-]*", value) or parse_yaml(value) != value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)
