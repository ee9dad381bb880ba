"""What `make demo` does with a demo/ that is there, in real git repositories; the stages are played."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.project import Project
from thaw.app import demo
from thaw.app.demo import FOLDER, _accuracy, _activation, _git, run_demo, write_examples
from thaw.errors import ThawError

TOLD = "demo/ is not updated: it has {}; for a new demo move it away and run again\n"


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("origin"))


@pytest.fixture
def project(origin, tmp_path, monkeypatch):
    project = Project(tmp_path, origin.folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "_python", played)
    monkeypatch.setattr(demo, "demo_summary", lambda folder: "")
    monkeypatch.setattr(demo, "write_examples", lambda folder: None)
    return project


def played(*command):
    """What `thaw params recipe=demo` and `dvc repro` write."""
    params = FOLDER / "params.yaml"
    if command[0] == "thaw":
        params.write_text("seed: 0\n")
    else:
        (FOLDER / "dvc.lock").write_text(f"schema: '2.0' # {params.read_text()}")
        (FOLDER / "metrics/phases").mkdir(exist_ok=True)
        for name in ("evaluate.json", "phases/head.json"):
            (FOLDER / "metrics" / name).write_text(json.dumps({"accuracy": len(params.read_text())}))


def git(*arguments):
    return _git(*demo.AUTHOR, *arguments)


def test_the_demo_is_a_clone_on_a_branch_with_its_results_committed(project):
    run_demo()
    assert git("branch", "--show-current") == "demo"
    assert git("status", "--porcelain") == ""
    assert git("show", "HEAD:dvc.lock") == "schema: '2.0' # seed: 0"
    assert git("diff", "--name-only", "refs/thaw/source", "HEAD").split() == [
        "conf/config.yaml", "dvc.lock", "metrics/evaluate.json", "metrics/phases/head.json", "params.yaml"
    ]  # fmt: skip
    assert git("diff", "--unified=0", "refs/thaw/source", "HEAD", "--", "conf").splitlines()[-2:] == [
        "-  - recipe: none", "+  - recipe: demo"
    ]  # fmt: skip
    assert (
        git("merge-base", "HEAD", project.git("rev-parse", "HEAD").strip()) == project.git("rev-parse", "HEAD").strip()
    )
    before = git("rev-parse", "HEAD")
    run_demo()
    assert git("rev-parse", "HEAD") == before, "nothing has changed"


def test_a_demo_without_changes_is_brought_up_to_date(project, capsys):
    run_demo()
    first = git("rev-parse", "HEAD")
    (project.folder / "README.md").write_text("new\n")
    project.git("rm", "--quiet", "LICENSE")
    project.commit("newer")
    (project.folder / "Makefile").write_text("uncommitted\n")
    run_demo()
    assert (FOLDER / "README.md").read_text() == "new\n"
    assert (FOLDER / "Makefile").read_text() == "uncommitted\n"
    assert not (FOLDER / "LICENSE").exists()
    assert git("branch", "--show-current") == "demo"
    assert git("merge-base", "HEAD", first) == first, "experiments of the first demo stay on an ancestor"
    assert git("status", "--porcelain") == ""
    assert "left as it is" not in capsys.readouterr().out


def test_what_a_killed_run_left_is_not_taken_for_the_users(project, monkeypatch, capsys):
    def killed(*command):
        played(*command)
        if command[0] == "dvc":
            raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_python", killed)
    with pytest.raises(KeyboardInterrupt):
        run_demo()
    monkeypatch.setattr(demo, "_python", played)
    run_demo()
    assert "left as it is" not in capsys.readouterr().out
    assert git("status", "--porcelain") == ""


def edit(name):
    def act():
        (FOLDER / name).write_text("seed: 1\n")

    return act


def commit():
    edit("conf/mine.yaml")()
    git("add", "--all")
    git("commit", "--quiet", "-m", "mine")


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (edit("params.yaml"), "changed files: params.yaml"),
        (edit("conf/my notes.txt"), 'changed files: "conf/my notes.txt"'),
        (commit, "commits of yours: 1"),
        (lambda: git("checkout", "--quiet", "-b", "mine"), "branch mine"),
        (lambda: git("checkout", "--quiet", "--detach"), "a detached HEAD"),
    ],
    ids=["an edited file", "an untracked file", "a commit", "a branch", "a detached HEAD"],
)
def test_what_is_the_users_stays_and_is_told(project, capsys, act, words):
    run_demo()
    act()
    project.git("commit", "--quiet", "--allow-empty", "-m", "newer")
    (project.folder / "README.md").write_text("newer\n")
    head, files = git("rev-parse", "HEAD"), contents()
    capsys.readouterr()
    run_demo()
    assert capsys.readouterr().out.startswith(TOLD.format(words))
    assert git("rev-parse", "HEAD") == head
    assert contents() == files


def contents():
    """All files of demo/ but those that a run writes."""
    return {
        path: path.read_bytes()
        for path in FOLDER.rglob("*")
        if path.is_file() and not {".git", "metrics", "dvc.lock"} & set(path.parts)
    }


def test_the_checkout_and_its_demo_can_be_moved_together(project, tmp_path, monkeypatch, capsys):
    run_demo()
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    monkeypatch.chdir(moved)
    run_demo()
    assert "left as it is" not in capsys.readouterr().out


def test_a_shallow_checkout_has_a_demo(project, tmp_path, monkeypatch):
    project.git("commit", "--quiet", "--allow-empty", "-m", "second")
    shallow = tmp_path / "shallow"
    project.git("clone", "--quiet", "--depth", "1", project.folder.as_uri(), str(shallow))
    monkeypatch.chdir(shallow)
    run_demo()
    (shallow / "README.md").write_text("new\n")
    run_demo()
    assert (FOLDER / "README.md").read_text() == "new\n"


def other_repository():
    FOLDER.mkdir()
    git("init", "--quiet")


def own_folder():
    FOLDER.mkdir()
    (FOLDER / "photo.png").touch()


@pytest.mark.parametrize("make", [own_folder, other_repository, lambda: FOLDER.touch()])
def test_a_demo_that_is_no_clone_of_the_checkout_is_refused(project, make):
    make()
    before = sorted(Path().rglob("demo/*"))
    with pytest.raises(ThawError, match=r"^demo: demo/ is not a clone of this checkout; move it away and run again$"):
        run_demo()
    assert sorted(Path().rglob("demo/*")) == before


def test_a_demo_in_a_demo_or_below_the_root_is_refused(project, monkeypatch):
    run_demo()
    (FOLDER / "docs").mkdir(exist_ok=True)
    root = FOLDER.resolve()
    monkeypatch.chdir(FOLDER)
    with pytest.raises(ThawError, match=f"^demo: {root} is a demo itself; run from the checkout that made it$"):
        run_demo()
    monkeypatch.chdir("docs")
    with pytest.raises(ThawError, match=f"^dvc.yaml: not found; run from the root of the checkout, {root}$"):
        run_demo()
    assert not Path("demo").exists()


def test_three_test_images_come_as_files_that_predict_reads(tmp_path):
    from thaw.images.read import read_image

    processed = tmp_path / "data/processed"
    (processed / "test").mkdir(parents=True)
    (processed / "classes.json").write_text(json.dumps({"classes": list("abcd")}))
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    np.save(processed / "test/images.npy", images)
    np.save(processed / "test/labels.npy", np.array([0, 2, 1, 3, 1], np.uint8))
    write_examples(tmp_path)
    found = {file.name: int(read_image(file, 8).pixels[0, 0, 0]) for file in (tmp_path / "examples").iterdir()}
    assert found == {"b.png": 2, "c.png": 1, "d.png": 3}
    (tmp_path / "examples/b.png").write_bytes(b"mine")
    write_examples(tmp_path)
    assert (tmp_path / "examples/b.png").read_bytes() == b"mine"


def test_an_empty_folder_is_taken(project):
    FOLDER.mkdir()
    run_demo()
    assert git("branch", "--show-current") == "demo"


def test_an_accuracy_has_its_interval_unless_an_earlier_version_made_the_results():
    assert _accuracy({"accuracy": 0.98594, "accuracy_low": 0.9, "accuracy_high": 1.0}) == "0.986 (95 %: 0.900 to 1.000)"
    assert _accuracy({"accuracy": 0.98594}) == "0.986"


def test_the_last_line_can_be_typed_where_the_environment_is_not_active(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert _activation() == "", "Python of the system"
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    assert _activation() == ". .venv/bin/activate && "
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / ".venv"))
    assert _activation() == ""
