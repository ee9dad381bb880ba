"""What runs again after an edit, on a small pipeline and on dvc.yaml itself."""

import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.helpers.project import ROOT
from tools import what_reruns

DVC_YAML = """
stages:
  split:
    cmd: echo
    deps: [stages/split.py]
    outs: [data/splits]
  train:
    foreach: {top: 1, all: 2}
    do:
      cmd: echo
      deps: [stages/train.py, thaw/network, data/splits]
      outs: ["models/${key}"]
  score:
    cmd: echo
    deps: [stages/score.py, thaw/backbones/cnn.py, models/top, models/all]
    outs: [scores]
"""
FILES = [
    "stages/split.py", "stages/train.py", "stages/score.py", "thaw/network/blocks.py", "thaw/network/deep/mode.py",
    "thaw/backbones/__init__.py", "thaw/backbones/cnn.py", "thaw/backbones/vgg16.py", "thaw/errors.py",
]  # fmt: skip
NAMES = [*FILES, "thaw/backbones/new.py"]
TABLE = """
| edited | run again | after them, if their outputs change |
| --- | --- | --- |
| `stages/split.py` | split | train, score |
| `stages/train.py`, `thaw/network/` | train | score |
| `stages/score.py`, `thaw/backbones/cnn.py` | score | none |
| `thaw/backbones/` except `cnn.py`, `thaw/errors.py`, a new file `thaw/backbones/new.py` | none | none |
""".strip()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A small pipeline that has never run."""
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("pass\n")
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


def test_the_table_names_files_of_one_effect_together_and_folders_as_a_whole(folder):
    with Repo(str(folder)) as repo:
        assert what_reruns.table(repo, what_reruns.expected(repo, NAMES)) == TABLE


def test_dvc_sees_what_is_computed_from_its_file_and_all_is_as_before(folder):
    with Repo(str(folder)) as repo:
        effects = what_reruns.expected(repo, NAMES)
    assert what_reruns.observed(folder, NAMES) == effects
    assert all((folder / name).read_text() == "pass\n" for name in FILES)
    assert not (folder / "thaw/backbones/new.py").exists()


def test_the_table_replaces_what_stands_between_the_markers():
    text = f"before\n{what_reruns.BEGIN}\nold\n{what_reruns.END}\nafter\n"
    assert what_reruns.written(text, "new") == text.replace("old", "new")
    with pytest.raises(ValueError, match="no lines"):
        what_reruns.written("before\nafter\n", "new")


def test_the_table_in_contributing_is_that_of_dvc_yaml():
    document = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    with what_reruns.demo(ROOT) as copy, Repo(str(copy)) as repo:
        table = what_reruns.table(repo, what_reruns.expected(repo, what_reruns.code(copy)))
    assert document == what_reruns.written(document, table), "python -m tools.what_reruns --write CONTRIBUTING.md"
