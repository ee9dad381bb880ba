"""Digests of the code that decides numbers, by package and file, and the refusal of others. Start at `code_digests`.

A project made by `thaw new` has no code for DVC to watch: the stages of its dvc.yaml name these digests, which
params.yaml has in its section `code:`. Comments, docstrings and formatting do not count, nor does Python's version.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import thaw
from thaw import paths
from thaw.errors import ThawError
from thaw.runtime.watched import DVC_YAML, FREE, read_definition, value_of

# The section of params.yaml.
SECTION = "code"
# Packages whose modules are named one by one, as dvc.yaml does: a run builds one backbone and reads one dataset.
BY_FILE = ("backbones", "datasets")

Digests = dict[str, Any]


def code_digests(root: Path | None = None) -> Digests:
    """Digest of each deciding package of thaw, and of each module of the packages in `BY_FILE`.

    Args:
        root: the package's folder; that of the installed one by default.
    """
    root = root or Path(thaw.__file__).parent
    packages = [package for package in sorted(root.iterdir()) if (package / "__init__.py").is_file()]
    return {
        package.name: _of_modules(package) if package.name in BY_FILE else _of_folder(package)
        for package in packages
        if package.name not in FREE
    }


def refuse_other_code(stages: list[str], params: dict[str, Any]) -> None:
    """Refuse stages whose digests are not those of the installed thaw, where dvc.yaml names digests.

    Args:
        stages: names in DVC, such as unfreeze@all.
        params: the content of params.yaml.

    Raises:
        ThawError: names the packages and the remedy.
    """
    if params.get(SECTION) is None or not DVC_YAML.is_file():
        return
    installed = {SECTION: code_digests()}
    named = [name for stage in stages for name in read_definition(stage, params).get("params", ())]
    digests = dict.fromkeys(name for name in sorted(named) if name.startswith(f"{SECTION}."))
    other = [name for name in digests if value_of(name, params) != value_of(name, installed)]
    if other:
        packages = ", ".join(name.replace(f"{SECTION}.", "thaw.", 1) for name in other)
        raise ThawError(
            f"{packages}: the installed thaw {thaw.__version__} has other code than section `{SECTION}:` of "
            f"{paths.PARAMS} names; run `thaw upgrade`, or install the version in requirements.txt"
        )


def _of_modules(package: Path) -> dict[str, str]:
    return {file.stem: _of_file(file) for file in sorted(package.glob("*.py")) if file.stem != "__init__"}


def _of_folder(package: Path) -> str:
    files = (file for file in sorted(package.rglob("*")) if file.is_file() and "__pycache__" not in file.parts)
    names = [f"{file.relative_to(package).as_posix()} {_of_file(file)}" for file in files]
    return _short(hashlib.sha256("\n".join(names).encode()))


def _of_file(file: Path) -> str:
    content = file.read_bytes()
    return _short(hashlib.sha256("".join(_tree(ast.parse(content))).encode() if file.suffix == ".py" else content))


def _short(digest: Any) -> str:
    """Enough of a digest to tell versions apart, in a file that people read; no number to YAML, as 1e5 would be."""
    return f"x{digest.hexdigest()[:16]}"


def _tree(node: Any) -> Iterator[str]:
    """A syntax tree as text.

    Text of our own: `ast.dump` differs between versions of Python, which add fields (`type_params` in 3.12) and leave
    out empty ones (3.13). So all that is None or an empty list is left out.
    """
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in sorted(ast.iter_fields(node)):
            if name not in ("kind", "type_comment", "type_ignores") and (value := _kept(node, name, value)) != []:
                yield f" {name}="
                yield from _tree(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _tree(item)
        yield "]"
    else:
        # Which letters `repr` escapes depends on the version's Unicode.
        yield f"{ascii(node)},"


def _kept(node: ast.AST, name: str, value: Any) -> Any:
    """What counts of a field of a node; an empty list for nothing."""
    if value is None and not isinstance(node, ast.Constant):
        return []
    if isinstance(value, list) and isinstance(node, ast.JoinedStr):
        return _joined(value)
    if isinstance(value, list):
        return [item for item in value if not _is_text(item)]
    return value


def _is_text(node: Any) -> bool:
    """Whether a statement is a text alone: a docstring, or one below an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _joined(parts: list[Any]) -> list[Any]:
    """The parts of an f-string, whose plain text versions of Python cut differently."""
    found: list[Any] = []
    for part in parts:
        if not isinstance(part, ast.Constant):
            found.append(part)
        elif found and isinstance(found[-1], str):
            found[-1] += str(part.value)
        elif part.value:
            found.append(str(part.value))
    return found
