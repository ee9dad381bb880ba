"""What DVC watches for a stage, of dvc.yaml and params.yaml: its code, its other inputs and its parameters.

Read without DVC, which need not be installed.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import thaw
from thaw import paths
from thaw.errors import ThawError
from thaw.runtime.files import digest, sha256

DVC_YAML = Path("dvc.yaml")

# Packages of thaw that decide no number, and are no stage's dependency.
FREE = ("app", "config", "runtime")

_VALUE = re.compile(r"\$\{([^}]+)\}")


@dataclass
class Watched:
    """What a stage depends on.

    Attributes:
        code: hashes of files and folders of thaw/ and stages/, by path.
        inputs: of all others.
        parameters: values by name.
    """

    code: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)


def read_watched(stage: str) -> Watched:
    """What dvc.yaml names for a stage, with the values of params.yaml.

    Where there is no dvc.yaml, or it names no code of ours, the code is that of all packages of the installed thaw
    that decide numbers; the dvc.yaml of `thaw new` names digests of code among the parameters.

    Args:
        stage: such as extract or unfreeze@all.

    Raises:
        ThawError: one of the two is no YAML.
    """
    watched = Watched()
    if DVC_YAML.is_file():
        values = _read_yaml(paths.PARAMS)
        section, values = _section(_read_yaml(DVC_YAML)["stages"], stage, values)
        for dep in (Path(_resolved(dep, values)) for dep in section.get("deps", ())):
            if dep.parts[0] in ("thaw", "stages"):
                watched.code[dep.as_posix()] = _code_hash(dep)
            else:
                watched.inputs[dep.as_posix()] = digest(dep)
        names = [_resolved(name, values) for name in section.get("params", ())]
        watched.parameters = {name: value_of(name, values) for name in names}
    if not any(name.startswith("code.") for name in watched.parameters):
        watched.code = watched.code or _code_of_packages()
    return watched


def read_definition(stage: str, values: dict[str, Any], dvc_yaml: Path = DVC_YAML) -> dict[str, Any]:
    """What dvc.yaml says of a stage, resolved, without what it depends on being read.

    Args:
        stage: such as extract or unfreeze@all.
        values: the content of params.yaml, of now or of another time.
        dvc_yaml: the file.

    Returns:
        `cmd`, `deps` and `outs` as texts, and `params` with their values by name; empty for a stage that it lacks.

    Raises:
        ThawError: dvc.yaml is no YAML.
    """
    section, values = _section(_read_yaml(dvc_yaml)["stages"], stage, values)
    if not section:
        return {}
    return {
        "cmd": _resolved(str(section.get("cmd")), values),
        "deps": sorted(_resolved(dep, values) for dep in section.get("deps", ())),
        "outs": sorted(
            _resolved(out if isinstance(out, str) else next(iter(out)), values)
            for kind in ("outs", "metrics")
            for out in section.get(kind, ())
        ),
        "params": {
            name: value_of(name, values) for name in (_resolved(name, values) for name in section.get("params", ()))
        },
    }


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        raise ThawError(f"{path}: not a YAML file") from None


def _section(stages: dict[str, Any], stage: str, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The section of a stage, and the values of its `${...}`; a stage that dvc.yaml does not have is empty."""
    name, one_of_many, key = stage.partition("@")
    section = stages.get(name, {})
    if one_of_many and "do" in section:
        items = value_of(section["foreach"].removeprefix("${").removesuffix("}"), values)
        section, values = section["do"], values | {"key": key, "item": items[key]}
    return section, values


def _resolved(text: str, values: dict[str, Any]) -> str:
    return _VALUE.sub(lambda match: str(value_of(match[1], values)), text)


def value_of(name: str, values: Any) -> Any:
    """The value of a dotted name; None where there is none."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _code_hash(path: Path) -> str:
    """A hash of a file, or of all files of a folder but byte code."""
    names = [f"{file.relative_to(path).as_posix()} {sha256(file)}" for file in sorted(_code_files(path))]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _code_files(path: Path) -> Iterator[Path]:
    files = path.rglob("*") if path.is_dir() else [path]
    return (file for file in files if file.is_file() and "__pycache__" not in file.parts)


def _code_of_packages() -> dict[str, str]:
    root = Path(thaw.__file__).parent
    packages = [package for package in sorted(root.iterdir()) if (package / "__init__.py").is_file()]
    return {f"thaw/{package.name}": _code_hash(package) for package in packages if package.name not in FREE}
