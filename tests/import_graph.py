"""Which of our modules a module imports, at any level and inside functions too."""

import ast
from pathlib import Path


def files_of(stage: str, root: Path) -> set[str]:
    """The stage's own file and every thaw file that it imports, transitively, as paths from the root."""
    todo, found = [root / "stages" / f"{stage}.py"], set()
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo += _imports(file, root)
    return {file.relative_to(root).as_posix() for file in found}


def _imports(file: Path, root: Path) -> list[Path]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    candidates = [root / (name.replace(".", "/") + ".py") for name in names if name.split(".")[0] in ("thaw", "stages")]
    return [candidate for candidate in candidates if candidate.is_file()]
