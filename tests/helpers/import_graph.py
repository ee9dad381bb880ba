"""Which of our modules a module imports, at any level and inside functions too."""

import ast
from pathlib import Path

# Where a closure ends: stage.py hands tables in and runs what it is told; the two `__init__` find modules by name, and
# thaw's own opens the Python API for who asks.
ENDS = {"thaw/__init__.py", "thaw/stage.py", "thaw/backbones/__init__.py", "thaw/datasets/__init__.py"}


def closure(start: str, root: Path) -> set[str]:
    """A module's own file and every thaw file that it imports, transitively, as paths from the root."""
    todo, found = [start], set()
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            if file not in ENDS:
                todo += imports(file, root)
    return found


def imports(file: str, root: Path) -> set[str]:
    """The thaw and stages files that a file imports, as paths from the root; a package counts as its `__init__`."""
    names = set()
    for node in ast.walk(ast.parse((root / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        if name.split(".")[0] in ("thaw", "stages"):
            path = name.replace(".", "/")
            candidates = (f"{path}.py", f"{path}/__init__.py")
            found |= {candidate for candidate in candidates if (root / candidate).is_file()}
    return found - {file}
