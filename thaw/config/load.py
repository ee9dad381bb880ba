"""Read params.yaml: YAML, then the schema, then the checks; refused in one line."""

import re
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import ValidationError

from thaw import paths
from thaw.config.checks import Tables, check_values
from thaw.config.schema import PHASE_NAME, Params, Section, accepted_words, section_in
from thaw.errors import ParamError, ThawError, Words


def load_params(tables: Tables, path: Path = paths.PARAMS) -> Params:
    """Read and check params.yaml.

    Raises:
        ThawError: the file is missing or no YAML mapping.
        ParamError: the first value that is not accepted.
    """
    try:
        raw = ParamsLoader(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        raise paths.not_found(path) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that does not exist
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ThawError(f"{path}{line}: not a YAML file") from None
    return check_params(raw, tables)


def check_params(raw: Any, tables: Tables) -> Params:
    """Turn the content of params.yaml into checked parameters.

    Raises:
        ParamError: the first value that is not accepted.
    """
    params = parse_params(raw)
    check_values(params, tables)
    return params


def parse_params(raw: Any) -> Params:
    """Parameters by the schema alone, each value by itself.

    Raises:
        ParamError: the first key that the schema lacks, or value that it does not accept.
    """
    if not isinstance(raw, dict):
        raise ParamError("params.yaml", raw, f"a mapping with {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise _first_line(error, raw) from None


class ParamsLoader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML takes `1e-3` for a string."""


ParamsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)$"),
    list("-+.0123456789"),
)


def _first_line(error: ValidationError, raw: dict) -> ParamError:
    """The first of pydantic's errors, in our words: parameter, received, accepted."""
    first = error.errors()[0]
    # The name of a phase that is no text, such as 1 or true.
    if first["loc"][0] == "schedule" and first["loc"][-1] == "[key]":
        return ParamError(".".join(map(str, [*first["loc"][:-2], first["input"]])), first["input"], PHASE_NAME)
    section: type[Section] | None = Params
    value: Any = raw
    by_name, accepted, names = False, "", []
    # The last part may be no key, but which type of a union was tried: then the value is no mapping.
    for part in first["loc"]:
        if isinstance(value, dict) and section is not None:
            field = None if by_name else section.model_fields.get(str(part))
            names.append(str(part))
            if field is not None:
                accepted, section = accepted_words(field), section_in(field.annotation)
                by_name = get_origin(field.annotation) is dict
            elif by_name:
                accepted, by_name = "", False
            else:
                return ParamError(".".join(names), Words("an unknown key"), ", ".join(section.model_fields))
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            names.append(str(part))
            value = value[part]
    fields = section.model_fields if section else ()
    if names[:2] == ["schedule", "phases"] and first["type"] == "missing":
        accepted += _of_another_backbone(raw, names[2])
    return ParamError(".".join(names), value, accepted or f"a mapping with {', '.join(fields)}")


def _of_another_backbone(raw: dict, phase: str) -> str:
    """What to type where a recipe's schedule changes a phase that the schedule of the backbone does not have."""
    name, backbone = (raw[section].get("name") for section in ("schedule", "backbone"))
    if not str(name).startswith("recipe/"):
        return ""
    return f"; {name} changes {phase}, which schedules of backbone {backbone} do not have: add -S schedule=gradual"
