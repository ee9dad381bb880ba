"""Comparison of two commits: tensors, features, metrics and tables of a run of each. Start at `compare`.

python -m tools.compare_commits HEAD~1 HEAD
python -m tools.compare_commits HEAD~1 HEAD --set recipe=class-split dataset.limit=2000 dataset.url=/data/cifar.tar.gz
python -m tools.compare_commits demo HEAD

Each commit runs in a separate clone, with the same number of threads: that number changes the last bits of a result.
Tensors, arrays and metrics are compared by bits, tables by value. Renamed files, columns and keys are matched by
RENAMED_FILES and RENAMED_KEYS, else by equal content, and listed. Exit code 1: a value differs, or NEW lacks it.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
from tabulate import tabulate

from tools import clones

# Known renames, compared even where values differ: pattern of the old path and new path, and old and new name of a
# column or of a part of a metric's key.
RENAMED_FILES = [(r"plots/(?:curves/)?([^/]+\.csv)", r"plots/tables/\1"), (r"plots/(.+\.csv)", r"plots/tables/\1")]
RENAMED_KEYS = {"pictures": "images"}

THREADS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"]

# Content of a file: tensors, columns or numbers by name.
Values = dict[str, Hashable]
T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """A kind of files of a run, read and compared in one way.

    Attributes:
        patterns: glob patterns of the paths.
        read: returns the values of a file; equal values mean equal results.
        but: excluded folders.
    """

    patterns: list[str]
    read: Callable[[Path], Values]
    but: tuple[str, ...] = ()

    def files(self, folder: Path) -> dict[str, Values]:
        """The values of all files of this kind in the folder of a run, by their paths from there."""
        paths = sorted({path for pattern in self.patterns for path in folder.glob(pattern)})
        names = {path.relative_to(folder).as_posix(): path for path in paths}
        return {name: self.read(path) for name, path in names.items() if not name.startswith(self.but)}


def tensors(path: Path) -> Values:
    """Type, shape and a hash of each tensor of a safetensors file."""
    return {
        name: _bits(tensor["dtype"], tensor["shape"], tensor["data"])
        for name, tensor in safetensors.deserialize(path.read_bytes())
    }


def array(path: Path) -> Values:
    """Type, shape and a hash of the one array of a .npy file."""
    values = np.load(path, mmap_mode="r")
    return {"array": _bits(str(values.dtype), values.shape, np.ascontiguousarray(values))}


def _bits(dtype: str, shape: Any, data: Any) -> str:
    return f"{dtype} {list(shape)} {hashlib.sha256(data).hexdigest()[:16]}"


def numbers(path: Path) -> Values:
    """Values of a JSON file, by keys joined with dots; floats in full precision, so that equal texts are equal bits."""
    return dict(_leaves(json.loads(path.read_text(encoding="utf-8"))))


def _leaves(value: Any, *keys: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, *keys, str(key))
    else:
        yield ".".join(keys), json.dumps(value)


def columns(path: Path) -> Values:
    """The cells of each column of a CSV file; 0.50 is the value of 0.5."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    return {name: tuple(_value(row[index]) for row in rows) for index, name in enumerate(header)}


def _value(cell: str) -> str:
    try:
        return repr(float(cell))
    except ValueError:
        return cell


KINDS = {
    "tensors": Kind(["models/**/*.safetensors"], tensors),
    "arrays": Kind(["data/features/**/*.npy", "data/processed/**/*.npy"], array),
    "metrics": Kind(["metrics/**/*.json"], numbers, but=("metrics/time/", "metrics/provenance/")),
    "tables": Kind(["plots/**/*.csv"], columns),
}
PROVENANCE = Kind(["metrics/provenance/*.json"], numbers)


@dataclass
class Comparison:
    """Result for one kind of files; each entry of a list is a line of the report."""

    equal: int = 0
    differing: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    only_old: list[str] = field(default_factory=list)
    only_new: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether the new run has all values of the old one, and maybe more."""
        return not self.differing and not self.only_old


def compare(old: dict[str, Values], new: dict[str, Values]) -> Comparison:
    """Compare files of one kind, value by value."""
    result = Comparison()
    for old_path, new_path in _pairs(old, new, _renamed_file, lambda values: frozenset(values.values())):
        if old_path is None or new_path is None:
            _alone(result, old_path, new_path)
            continue
        if old_path != new_path:
            result.renamed.append(f"{old_path} -> {new_path}")
        values, others = old[old_path], new[new_path]
        for name, other in _pairs(values, others, _renamed_key, lambda value: value):
            if name is None or other is None:
                _alone(result, name and f"{old_path}: {name}", other and f"{new_path}: {other}")
                continue
            if name != other:
                result.renamed.append(f"{new_path}: {name} -> {other}")
            if values[name] == others[other]:
                result.equal += 1
            else:
                result.differing.append(f"{new_path}: {other}: {_difference(values[name], others[other])}")
    return result


def _alone(result: Comparison, old: str | None, new: str | None) -> None:
    if old is not None:
        result.only_old.append(old)
    if new is not None:
        result.only_new.append(new)


def _pairs(
    old: dict[str, T], new: dict[str, T], renamed: Callable[[str], list[str]], content: Callable[[T], Hashable]
) -> Iterator[tuple[str | None, str | None]]:
    """Pair the names of two sides: equal ones, then known renames, then names of equal content.

    Yields:
        The old and the new name; None beside a name of one side alone.
    """
    partners = {name: name for name in old if name in new}
    free = {name: value for name, value in new.items() if name not in partners}
    for name in old:
        if name not in partners and (other := next(filter(free.__contains__, renamed(name)), None)):
            partners[name] = other
            del free[other]
    by_content = defaultdict(list)
    for name, value in free.items():
        by_content[content(value)].append(name)
    for name, value in old.items():
        same = by_content[content(value)]
        if name not in partners and same:
            partners[name] = same.pop(0)
    for name in old:
        yield name, partners.get(name)
    for name in new.keys() - partners.values():
        yield None, name


def _renamed_file(path: str) -> list[str]:
    return [re.sub(pattern, new, path) for pattern, new in RENAMED_FILES if re.fullmatch(pattern, path)]


def _renamed_key(name: str) -> list[str]:
    return [".".join(RENAMED_KEYS.get(part, part) for part in name.split("."))]


def _difference(old: Hashable, new: Hashable) -> str:
    """Two differing values in words; for columns, the number of differing rows and the first of them."""
    if not (isinstance(old, tuple) and isinstance(new, tuple)):
        return f"{old} -> {new}"
    if len(old) != len(new):
        return f"{len(old)} rows -> {len(new)} rows"
    rows = [row for row, cells in enumerate(zip(old, new, strict=True), start=1) if cells[0] != cells[1]]
    first = rows[0]
    return f"{len(rows)} of {len(old)} rows, the first in row {first}: {old[first - 1]} -> {new[first - 1]}"


def summary(results: dict[str, Comparison]) -> str:
    """A table of counts, then lists of differing, renamed and one-sided values."""
    counts = [
        [kind, result.equal, *map(len, (result.differing, result.renamed, result.only_old, result.only_new))]
        for kind, result in results.items()
    ]
    lines = [tabulate(counts, ["", "equal", "differ", "renamed", "only in OLD", "only in NEW"])]
    for title, entries in (
        ("Differ", "differing"), ("Renamed", "renamed"), ("Only in OLD", "only_old"), ("Only in NEW", "only_new")
    ):  # fmt: skip
        listed = [line for result in results.values() for line in getattr(result, entries)]
        if listed:
            lines += ["", f"{title}:", *(f"  {line}" for line in listed)]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for side in ("old", "new"):
        parser.add_argument(side, metavar=side.upper(), help="a revision, or the folder of a finished run")
    words = "overrides of the run, as -S takes them; recipe=demo by default"
    parser.add_argument("--set", nargs="+", default=["recipe=demo"], metavar="KEY=VALUE", dest="overrides", help=words)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--threads", type=int, default=cores, metavar="N", help=f"of each run ({cores})")
    words = "keep the runs in FOLDER/old and FOLDER/new"
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help=words)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        runs = [
            _finished(operand, folder / side, arguments.overrides, arguments.threads)
            for side, operand in (("old", arguments.old), ("new", arguments.new))
        ]
        results = {name: compare(*map(kind.files, runs)) for name, kind in KINDS.items()}
        otherwise = compare(*map(PROVENANCE.files, runs)).differing
    print(summary(results))
    if otherwise:
        print("\nComputed by other versions or on another device:", *otherwise, sep="\n  ")
    return int(not all(result.same for result in results.values()))


def _finished(operand: str, folder: Path, overrides: list[str], threads: int) -> Path:
    """Folder of a finished run: the operand itself, or a clone in which the revision has run."""
    if (Path(operand) / "dvc.lock").is_file():
        return Path(operand)
    print(f"{clones.clone(operand, folder)}: {' '.join(overrides)}, {threads} threads", flush=True)
    clones.run(folder, overrides, dict.fromkeys(THREADS, str(threads)))
    return folder


if __name__ == "__main__":
    sys.exit(main())
