import os
import subprocess
import sys

import pytest

from thaw import paths
from thaw.app.replaced import keep_edits, name_replaced

COPY = "params.yaml.before"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with a committed params.yaml."""
    monkeypatch.chdir(tmp_path)
    paths.PARAMS.write_text("seed: 0\nhead: {units: 256}\n")
    for command in (
        ("init", "--quiet"),
        ("add", "params.yaml"),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first"),
    ):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_a_committed_file_is_replaced_without_a_word(repository, capsys):
    keep_edits("params", {"seed": 1})
    assert not list(repository.glob("params.yaml.*"))
    assert capsys.readouterr().err == ""


def test_edits_that_git_does_not_have_are_kept_and_named(repository, capsys):
    edited = "seed: 3  # lucky\nhead: {units: 256}\n"
    paths.PARAMS.write_text(edited)
    keep_edits("params", {"seed": 0, "head": {"units": 64}, "backend": "jax"})
    assert (repository / COPY).read_text() == edited
    said = "seed 3 -> 0, head.units 256 -> 64, backend (none) -> jax"
    assert (
        capsys.readouterr().err
        == f"params: params.yaml has edits that git does not have; kept in params.yaml.before: {said}\n"
    )


def test_a_copy_that_is_there_stays_and_equal_content_needs_no_other(repository):
    for seed in (3, 4, 3, 4):
        paths.PARAMS.write_text(f"seed: {seed}\n")
        keep_edits("params", {"seed": 0})
    copies = {path.name: path.read_text() for path in repository.glob(f"{COPY}*")}
    assert copies == {COPY: "seed: 3\n", f"{COPY}-2": "seed: 4\n"}


@pytest.mark.parametrize(
    "reference", ["refs/stash", "refs/exps/celery/stash", "refs/exps/exec/EXEC_HEAD", "refs/exps/ab/cd/one"]
)
def test_what_git_has_in_a_stash_alone_is_kept_and_what_an_experiment_has_is_not(repository, reference):
    paths.PARAMS.write_text("seed: 3\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commit = subprocess.check_output(["git", *author, "stash", "create"], text=True).strip()
    subprocess.run(["git", "update-ref", reference, commit], check=True)
    keep_edits("dvc exp run", {"seed": 0})
    assert (repository / COPY).exists() == (reference != "refs/exps/ab/cd/one")


def test_what_is_composed_to_the_same_values_or_is_not_there_needs_no_copy(repository):
    paths.PARAMS.write_text("{seed: 3}\n")
    keep_edits("params", {"seed": 3})
    paths.PARAMS.unlink()
    keep_edits("params", {"seed": 0})
    assert not list(repository.glob(f"{COPY}*"))


def test_edits_before_a_grid_and_what_is_no_yaml_are_kept(repository, capsys):
    paths.PARAMS.write_text("seed: [3\n")
    keep_edits("dvc exp run")
    assert (repository / COPY).read_text() == "seed: [3\n"
    assert capsys.readouterr().err.endswith("kept in params.yaml.before\n")


def test_outside_git_every_edit_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    paths.PARAMS.write_text("seed: 3\n")
    keep_edits("params", {"seed": 0})
    assert (tmp_path / COPY).exists()


def test_an_output_that_is_there_is_named(tmp_path, capsys):
    old = tmp_path / "a\nb.onnx"
    old.write_text("")
    os.utime(old, (0, 0))
    name_replaced("export", old, tmp_path / "new.onnx")
    line = capsys.readouterr().err
    assert line.startswith(f"export: replaces {tmp_path}/a\\nb.onnx of 19")
    assert line.count("\n") == 1


def test_explain_does_not_replace_the_image(tmp_path):
    image = tmp_path / "cat.png"
    image.write_bytes(b"mine")
    run = subprocess.run(
        [sys.executable, "-m", "thaw", "explain", str(image), "--output", str(image)], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "--output: received" in run.stderr and "a file other than the image" in run.stderr
    assert image.read_bytes() == b"mine"
