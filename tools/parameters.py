"""docs/parameters.md: every key of params.yaml, from the schema, conf/ and dvc.yaml; `every_key` is the way in.

python -m tools.parameters > docs/parameters.md
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from thaw.config.schema import Params, Phase, Section, accepted_words, section_in

ROOT = Path(__file__).parents[1]
# As a table's cell has it.
BAR = "\\|"
# In place of a phase's name.
PHASE = "<phase>"
PHASES = f"schedule.phases.{PHASE}."
# For each group of conf/ the file with all of its keys, but for what each option must set.
USUAL = {
    "dataset": "dataset/base/usual",
    "backbone": "backbone/base/usual",
    "head": "head/base/usual",
    "augment": "augment/none",
    "schedule": "schedule/head-only",
}

HEAD = """# Parameters

Every key of `params.yaml`, which `conf/` composes. Made by `python -m tools.parameters` from the schema
(`thaw/config/schema.py`), `conf/` and `dvc.yaml`.

- *Default*: the usual value; after it, options of the group that have another one.
- *Reruns*: the stages that name the key in `dvc.yaml`, and so run again when it changes. Stages that depend on them run
  again where an output has changed. A key without a stage changes no bit of a result.
"""


@dataclass(frozen=True)
class Key:
    """One key of params.yaml.

    Attributes:
        name: dotted; <phase> stands for the name of any phase.
        accepted: its values, in words.
        does: what it is for.
    """

    name: str
    accepted: str
    does: str


def every_key(section: type[Section] = Params, prefix: str = "") -> Iterator[Key]:
    """All keys that hold a value, in the schema's order; those of sections that may be null, as well."""
    for name, field in section.model_fields.items():
        accepted, does = accepted_words(field), " ".join((field.description or "").split())
        inner = section_in(field.annotation)
        if inner is None or accepted:
            yield Key(f"{prefix}{name}", accepted, does)
        if inner is not None:
            yield from every_key(inner, f"{prefix}{name}." + (f"{PHASE}." if inner is Phase else ""))


def named_params() -> dict[str, list[str]]:
    """The parameters that each stage of dvc.yaml names."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {
        f"{stage}@{PHASE}" if "foreach" in entry else stage: [
            name.replace("${key}", PHASE) for name in entry.get("do", entry).get("params", [])
        ]
        for stage, entry in stages.items()
    }


def names(params: list[str], key: str) -> bool:
    """Whether a stage that names `params` runs again when a key changes."""
    return any(f"{key}.".startswith(f"{name}.") for name in params)


def default(key: str) -> str:
    """The usual value in conf/, and which options of the group have another one; empty for what each must set."""
    group = key.split(".")[0]
    if key.startswith(PHASES):
        return _default(key.removeprefix(PHASES), "schedule/phase/usual", "schedule")
    if group in USUAL:
        return _default(key.removeprefix(f"{group}."), USUAL[group], group)
    value = _values(_read("config"), key)
    return _plain(value[0]) if value else ""


def _default(key: str, usual: str, group: str) -> str:
    """As `default`, of a key of a group's section or of a phase."""
    known = _values(_read(usual), key) or _values(_read("config"), f"{group}.{key}")
    shown = [_plain(value) for value in known if value != "???"]
    if key in ("name", "phases"):  # each option's own
        return ""
    where = f"phases.*.{key}" if "phase" in usual else key
    folder = ROOT / "conf" / group
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("gradual/*.yaml")]):
        option = file.relative_to(folder).with_suffix("").as_posix()
        content = _read(f"{group}/{option}")
        values = _values(content.get(group, content), where)
        others = [text for text in dict.fromkeys(map(_plain, values)) if text not in shown[:1]]
        if others and usual != f"{group}/{option}":
            shown.append(f"{option}: {' or '.join(others)}")
    return "; ".join(shown)


def _read(file: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "conf" / f"{file}.yaml").read_text(encoding="utf-8"))


def _values(content: Any, key: str) -> list[Any]:
    """The values of a dotted key, where * stands for any name."""
    name, _, rest = key.partition(".")
    if not isinstance(content, dict):
        return []
    inner = list(content.values()) if name == "*" else [content[name]] if name in content else []
    return [value for part in inner for value in _values(part, rest)] if rest else inner


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True).splitlines()[0]


def section_of(key: str) -> str:
    """The section whose table in docs/parameters.md has a key; empty for the top level."""
    return PHASES.rstrip(".") if key.startswith(PHASES) else key.rpartition(".")[0].split(".")[0]


def row(key: Key, stages: dict[str, list[str]]) -> str:
    reruns = ", ".join(stage for stage, params in stages.items() if names(params, key.name))
    cells = [f"`{key.name}`", key.does, key.accepted, default(key.name), reruns]
    return f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |"


def page() -> str:
    """docs/parameters.md."""
    keys, stages, parts = list(every_key()), named_params(), [HEAD]
    for section in dict.fromkeys(section_of(key.name) for key in keys):
        rows = [row(key, stages) for key in keys if section_of(key.name) == section]
        title = f"`{section}`" if section else "Top level"
        parts += [f"## {title}\n", "| key | does | accepted | default | reruns |", "|---|---|---|---|---|", *rows, ""]
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
