"""A project after an upgrade of thaw: what `thaw upgrade` replaces and keeps, and what reruns. Start at `upgrade`."""

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

import thaw
from thaw import paths
from thaw.app.layout import CODE, LAID, ONCE, code_yaml, layout
from thaw.app.lockfile import all_stages
from thaw.app.new import laid_json, text_hash, write
from thaw.config.load import ParamsLoader
from thaw.errors import ThawError, printable
from thaw.runtime.code import SECTION, code_digests
from thaw.runtime.watched import read_definition
from thaw.stage import read_params


@dataclass
class Upgrade:
    """What an upgrade has done.

    Attributes:
        replaced: files written over that the user had not edited.
        added: files that were not there.
        removed: files that the new thaw has no more.
        kept: files of the user's, of which thaw has another version now.
        code: names of digests that changed, such as code.training.
        stages: those that will run again.
        invalid: why params.yaml is not accepted now; None if it is.
    """

    replaced: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    invalid: str | None = None


def upgrade() -> Upgrade:
    """Bring the project in this folder up to the installed thaw: its digests, and the files that are not edited.

    Raises:
        ThawError: no project of `thaw new`, or params.yaml or dvc.yaml is no YAML.
    """
    laid = _read_laid()
    params = _read_params()
    stages = all_stages(params)
    before = {stage: read_definition(stage, params) for stage in stages}
    files = layout(Path.cwd().name, laid["images"])
    done = Upgrade()
    for name, text in files.items():
        if name not in (*ONCE, CODE.as_posix()):
            _bring(name, text, laid["files"].get(name), done)
    for name in laid["files"].keys() - files.keys() - {*ONCE}:
        _remove(name, laid["files"][name], done)
    write(CODE, code_yaml())
    digests = code_digests()
    done.code = sorted(_changed(f"{SECTION}.", params.get(SECTION) or {}, digests))
    if done.code:
        write(paths.PARAMS, _with_code(paths.PARAMS.read_text(encoding="utf-8"), digests))
    write(LAID, laid_json(files, laid["images"]))
    after = params | {SECTION: digests}
    done.stages = [stage for stage in stages if before[stage] != read_definition(stage, after)]
    try:
        read_params()
    except ThawError as error:
        done.invalid = str(error)
    return done


def described(done: Upgrade) -> str:
    """What an upgrade has done, in lines."""
    lines = [f"thaw {thaw.__version__}"]
    for words, names in (
        ("replaced", done.replaced),
        ("added", done.added),
        ("removed, as this thaw has no such file", done.removed),
        ("kept, as you have edited or deleted them (`thaw new OTHER_FOLDER` lays thaw's)", done.kept),
        ("other code", done.code),
        ("will run again", done.stages),
    ):
        if names:
            lines.append(printable(f"{words}: {', '.join(sorted(names) if words != 'will run again' else names)}"))
    if done.stages:
        lines.append("stages that depend on these follow where an output changes; `git diff` shows all, commit it")
    elif len(lines) == 1:
        lines.append("nothing to do: this project has its code and files")
    else:
        lines.append("no stage runs again; `git diff` shows all, commit it")
    if any(Path(name).is_relative_to(paths.CONF) for name in done.replaced + done.added):
        lines.append("params.yaml keeps its values; `dvc exp run` and `thaw params` compose it of the new conf/")
    if done.invalid:
        lines.append(f"{done.invalid}; `thaw params KEY=VALUE` composes params.yaml anew")
    return "\n".join(lines)


def _read_laid() -> dict[str, Any]:
    try:
        content = json.loads(LAID.read_text(encoding="utf-8"))
        if {*map(type, content["files"].values())} <= {str} and isinstance(content["images"], str | None):
            return content
    except FileNotFoundError:
        raise ThawError(f"upgrade: {LAID}: not found; run it in a project that `thaw new` made") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ThawError(f"upgrade: {LAID}: damaged; `git checkout HEAD {LAID}` brings the last one back")


def _read_params() -> dict[str, Any]:
    try:
        params = ParamsLoader(paths.PARAMS.read_text(encoding="utf-8")).get_single_data()
        if isinstance(params["schedule"]["phases"], dict):
            return params
    except (yaml.YAMLError, ValueError, KeyError, TypeError):
        pass
    raise ThawError(f"upgrade: {paths.PARAMS}: no parameters of thaw; `thaw params` composes it anew")


def _bring(name: str, text: str, laid: str | None, done: Upgrade) -> None:
    """Write one file, unless the user has edited or deleted it."""
    file = Path(name)
    if laid is None and not file.exists():
        write(file, text)
        done.added.append(name)
    elif _hash(file) == text_hash(text):
        return
    elif _hash(file) == laid:
        write(file, text)
        done.replaced.append(name)
    elif laid != text_hash(text):
        done.kept.append(name)


def _remove(name: str, laid: str, done: Upgrade) -> None:
    file = Path(name)
    if _hash(file) == laid:
        file.unlink()
        done.removed.append(name)
    elif file.exists():
        done.kept.append(name)


def _hash(file: Path) -> str:
    """The hash of a file's content; of none where it is missing or a link."""
    return sha256(file.read_bytes()).hexdigest() if file.is_file() and not file.is_symlink() else "none"


def _changed(prefix: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    names = []
    for key in old | new:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            names += _changed(f"{prefix}{key}.", before, after)
        elif before != after:
            names.append(f"{prefix}{key}")
    return names


def _with_code(text: str, digests: dict[str, Any]) -> str:
    """params.yaml with other digests, and all else of it as it is."""
    section = yaml.safe_dump({SECTION: digests}, sort_keys=True)
    # A function: no escapes in what it gives.
    text, count = re.subn(rf"^{SECTION}:.*\n?(^[ \t].*\n?)*", lambda _: section, text, count=1, flags=re.MULTILINE)
    return text if count else f"{text.rstrip()}\n{section}"
