"""docs/sharing.md, as typed, in a small repository: what reaches another clone, and what does not."""

import re
import shlex
import subprocess

import pytest

from tests.helpers.project import ROOT, Project

pytestmark = pytest.mark.slow

STAGE = """stages:
  copy:
    cmd: python -c "import shutil; [shutil.copy('params.yaml', name) for name in ('out', 'metrics/a.json')]"
    params: [units]
    outs: [out]
    metrics: [{metrics/a.json: {cache: false}}]
"""
NAME = "prosy-tilt"


def typed(heading: str) -> list[list[str]]:
    """The commands below a heading of docs/sharing.md."""
    text = (ROOT / "docs/sharing.md").read_text(encoding="utf-8")
    part = re.split(r"^## ", text.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    return [shlex.split(line) for line in re.findall(r"^    (.*)", part, re.MULTILINE)]


@pytest.fixture
def early(tmp_path) -> Project:
    """A repository with an experiment, whose remote was committed after it."""
    for name in ("early", "clone"):
        (tmp_path / name).mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", "origin.git"], cwd=tmp_path, check=True)
    project = Project(tmp_path / "early", tmp_path / "origin.git")
    project.dvc("init", "--quiet")
    (project.folder / "dvc.yaml").write_text(STAGE)
    (project.folder / "params.yaml").write_text("units: 1\n")
    (project.folder / ".gitignore").write_text("/out\n")
    (project.folder / "metrics").mkdir()
    (project.folder / "metrics/.gitkeep").touch()
    project.commit("start")
    project.dvc("exp", "run", "--name", NAME, "-S", "units=7")
    project.git("stash", "--include-untracked", "--quiet")
    project.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    project.git("commit", "--quiet", "-m", "the team's store", ".dvc/config")
    project.git("push", "--quiet", "origin", "HEAD")
    return project


def test_an_experiment_from_before_the_remote_arrives_once_it_is_saved_again(early, tmp_path):
    assert "Pushed" in early.dvc("exp", "push", "origin", NAME)
    assert not (tmp_path / "store").exists()  # without its data
    for program, *words in typed("Experiments from before the remote"):
        early.run(program, *words)
    clone = Project(tmp_path / "clone", tmp_path / "origin.git")
    for program, *words in typed("Experiments")[:2]:
        clone.run(program, *(f"{NAME}-shared" if word == NAME else word for word in words))
    assert (clone.folder / "out").read_text() == (clone.folder / "metrics/a.json").read_text() == "units: 7\n"
    assert "store" in (clone.folder / ".dvc/config").read_text()
    assert "didn't change" in clone.dvc("exp", "run", "-S", "units=7")


def test_edits_that_apply_drops_come_back(early):
    (early.folder / "dvc.yaml").write_text(STAGE + "# mine\n")
    early.dvc("exp", "apply", NAME)
    assert "# mine" not in (early.folder / "dvc.yaml").read_text()
    early.git("checkout", "--force", "--quiet", "HEAD")
    program, *words = typed("Experiments")[-1]
    early.run(program, *words)
    assert "# mine" in (early.folder / "dvc.yaml").read_text()
