"""git's refusals in one line, by git's own switch for a checkout of another user."""

import pytest

from thaw.app.demo import run_demo
from thaw.app.experiments import read_experiments
from thaw.app.git import git
from thaw.app.report.read import read_run
from thaw.errors import ThawError


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C")
    git("test", "init", "--quiet")
    (tmp_path / "dvc.yaml").touch()
    return tmp_path


@pytest.mark.parametrize("command", [run_demo, read_experiments, lambda: read_run(None)])
def test_a_checkout_of_another_user_is_told_with_the_remedy(checkout, monkeypatch, command):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(ThawError) as caught:
        command()
    said, _, remedy = str(caught.value).partition("another user owns this checkout; to let git trust it: ")
    assert said.startswith(("demo: ", "compare: ", "report: "))
    assert remedy == f"git config --global --add safe.directory {checkout}"


def test_a_refusal_has_the_cause_that_git_writes_first(checkout):
    with pytest.raises(ThawError, match=r"^demo: git rev-parse: fatal: ambiguous argument 'HEAD'"):
        git("demo", "-c", "user.name=a", "rev-parse", "HEAD")
