"""Parameters in tables: dotted names."""

from typing import Any


def flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by dotted name; lists and empty mappings are values."""
    values: dict[str, Any] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        values |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return values


def parse_yaml(text: str) -> Any:
    """YAML as DVC reads it, for which 1e-5 is a number."""
    from dvc.utils.serialize import parse_yaml

    return parse_yaml(text, "")
