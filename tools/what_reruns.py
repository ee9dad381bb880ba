"""Markdown table of the stages that `dvc repro` reruns after an edit of a file of the code. Start at `table`.

python -m tools.what_reruns
python -m tools.what_reruns --write CONTRIBUTING.md

The table is computed from dvc.yaml, with the parameters of the recipe `demo`, and checked with DVC: in a copy of the
checkout with placeholder outputs, a comment is appended to one file after the other, and the stages that `dvc status`
would name are compared with the table. Exit code 1: they differ.
"""

import argparse
import logging
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path, PurePosixPath

import networkx
from dvc.repo import Repo
from dvc.stage import PipelineStage

from tools import clones

RECIPE = "demo"
CODE = ("thaw", "stages", "conf")
# Files that somebody may add: modules in packages that find their modules by name.
ADDED = ["thaw/backbones/new.py", "thaw/datasets/new.py"]
BEGIN = "<!-- what reruns: python -m tools.what_reruns --write CONTRIBUTING.md -->"
END = "<!-- what reruns: end -->"

# The stages that have an edited file among their dependencies, in the order of the pipeline.
Effect = tuple[str, ...]


@contextmanager
def demo(checkout: Path) -> Iterator[Path]:
    """A copy of a checkout with the parameters of the recipe, in which no stage has run."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        clones.copy(checkout, folder)
        for command in (["git", "init", "--quiet"], [sys.executable, "-m", "thaw", "params", f"recipe={RECIPE}"]):
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        yield folder


def code(folder: Path) -> list[str]:
    """The files of the code in a copy, and those that somebody may add, by path from its root."""
    files = sorted(path for top in CODE for path in (folder / top).rglob("*") if path.suffix in (".py", ".yaml"))
    added = [name for name in ADDED if (folder / name).parent.is_dir()]
    return [path.relative_to(folder).as_posix() for path in files] + added


def expected(repo: Repo, names: list[str]) -> dict[str, Effect]:
    """The effect of an edit of each file, from dvc.yaml alone: a stage depends on the file or on a folder above it."""
    deps = {stage.name: {Path(dep.fs_path) for dep in stage.deps} for stage in _pipeline(repo)}
    paths = {name: Path(repo.root_dir, name) for name in names}
    return {name: tuple(stage for stage in deps if deps[stage] & {path, *path.parents}) for name, path in paths.items()}


def observed(folder: Path, names: list[str]) -> dict[str, Effect]:
    """The effect of an edit of each file, as DVC sees it in a copy, with placeholder outputs."""
    effects = {}
    with chdir(folder), Repo() as repo:
        for path in (Path(out.fs_path) for stage in _pipeline(repo) for out in stage.outs):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a placeholder\n", encoding="utf-8")
        repo.commit(force=True)
        # dvc.lock is read once; `dvc status` would read it for each file, which takes seconds.
        repo._reset()
        stages = _pipeline(repo)
        for name in names:
            with _comment(Path(name)), repo.lock:
                effects[name] = tuple(stage.name for stage in stages if stage.status())
    return effects


@contextmanager
def _comment(path: Path) -> Iterator[None]:
    """Append a comment to a file within the block; a missing file is created."""
    before = path.read_bytes() if path.exists() else None
    path.write_bytes((before or b"") + b"# a comment\n")
    try:
        yield
    finally:
        path.unlink()
        if before is not None:
            path.write_bytes(before)


def _pipeline(repo: Repo) -> list[PipelineStage]:
    """All stages, each after those that it depends on."""
    return list(networkx.topological_sort(repo.index.graph.reverse()))


def _downstream(repo: Repo, effect: Effect) -> Effect:
    """Stages downstream of an effect: DVC reruns them where an output upstream has changed."""
    stages = _pipeline(repo)
    edited = [stage for stage in stages if stage.name in effect]
    below = set().union(*(networkx.ancestors(repo.index.graph, stage) for stage in edited)) - {*edited}
    return tuple(stage.name for stage in stages if stage in below)


def table(repo: Repo, effects: dict[str, Effect]) -> str:
    """Markdown with a row for each effect: edited files, stages that run again, stages that may follow."""
    rows = [["edited", "run again", "after them, if their outputs change"], ["---"] * 3]
    order = [stage.name for stage in _pipeline(repo)]
    labels = _labels(effects)
    # By the first stage that differs; no stage comes last.
    for effect in sorted(labels, key=lambda effect: [order.index(stage) for stage in effect] or [len(order)]):
        rows.append([", ".join(labels[effect]), _stages(effect), _stages(_downstream(repo, effect))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _stages(effect: Effect) -> str:
    """The names of stages; the phases of `unfreeze`, which differ in parameters alone, are one."""
    return ", ".join(dict.fromkeys(stage.partition("@")[0] for stage in effect)) or "none"


def _labels(effects: dict[str, Effect]) -> dict[Effect, list[str]]:
    """The files of each effect, in short: a folder stands for all its files but the named exceptions."""
    labels: dict[Effect, list[str]] = {effect: [] for effect in effects.values()}
    here = {PurePosixPath(name): effect for name, effect in effects.items() if name not in ADDED}

    def add(folder: PurePosixPath) -> None:
        inside = {path: effect for path, effect in here.items() if folder in path.parents}
        common, count = Counter(inside.values()).most_common(1)[0]
        others = [path for path in inside if inside[path] != common]
        if len(others) < min(count, 4):
            names = ", ".join(f"`{path.relative_to(folder)}`" for path in others)
            labels[common].append(f"`{folder}/`" + (f" except {names}" if names else ""))
            for path in others:
                labels[inside[path]].append(f"`{path}`")
            return
        for child in dict.fromkeys(folder / path.relative_to(folder).parts[0] for path in inside):
            if child in here:
                labels[here[child]].append(f"`{child}`")
            else:
                add(child)

    for top in dict.fromkeys(path.parts[0] for path in here):
        add(PurePosixPath(top))
    for name in ADDED:
        if name in effects:
            labels[effects[name]].append(f"a new file `{name}`")
    return labels


def written(text: str, lines: str) -> str:
    """A document with the text between its two markers replaced.

    Raises:
        ValueError: a marker is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no lines {BEGIN} and {END}")
    return f"{before}{begin}\n{lines}\n{end}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = "put the table between the markers of a document; printed by default"
    parser.add_argument("--write", type=Path, metavar="FILE", help=words)
    document = parser.parse_args().write
    logging.getLogger("dvc").setLevel(logging.WARNING)  # hides messages about writing dvc.lock
    with demo(Path()) as folder:
        names = code(folder)
        with Repo(str(folder)) as repo:
            effects = expected(repo, names)
            lines = table(repo, effects)
        asked = observed(folder, names)
    for name, effect in asked.items():
        if effect != effects[name]:
            print(f"{name}: {effects[name]} by dvc.yaml, {effect} by dvc status", file=sys.stderr)
    if document is None:
        print(lines)
    else:
        document.write_text(written(document.read_text(encoding="utf-8"), lines), encoding="utf-8")
    return int(effects != asked)


if __name__ == "__main__":
    sys.exit(main())
