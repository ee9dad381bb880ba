"""A project made by `thaw new`, as docs/your-own-project.md has it typed, and an upgrade of thaw under it."""

import re
import shlex
from pathlib import Path

import pytest

from tests.helpers.project import HEAD_ONLY, ROOT, Project, ran

pytestmark = pytest.mark.slow


class OwnProject(Project):
    """A project of an installed thaw, which is a copy of this checkout."""

    def __init__(self, folder: Path) -> None:
        self.thaw = folder / "installed"
        self.thaw.mkdir()
        Project(self.thaw)
        self.folder = folder

    def run(self, *command: str, check: bool = True, **variables: str) -> str:
        return super().run(*command, check=check, **variables | {"PYTHONPATH": str(self.thaw)})


def typed() -> list[list[str]]:
    """The commands of the page's first block, with a small composition in place of the whole demo."""
    text = (ROOT / "docs/your-own-project.md").read_text(encoding="utf-8")
    lines = re.search(r"(?:^    .*\n)+", text, re.MULTILINE)[0].splitlines()
    small = {"thaw": HEAD_ONLY, "dvc": [part for override in HEAD_ONLY for part in ("-S", override)][1:]}
    commands = []
    for line in lines:
        words = shlex.split(line)
        commands.append([part for word in words for part in (small[words[0]] if word == "recipe=demo" else [word])])
    return commands


def test_the_commands_of_the_page_work_and_an_upgrade_reruns_what_it_changed(tmp_path):
    project = OwnProject(tmp_path)
    outputs = []
    for words in typed():
        if words[0] == "cd":
            project.folder /= words[1]
            project.git("config", "user.name", "test")
            project.git("config", "user.email", "test@localhost")
        else:
            outputs.append(project.run(*words))
    assert ran(outputs[2])[0] == "download" and ran(outputs[2])[-1] == "figures"
    assert ran(outputs[5])[:1] == ["train_head"], "dvc exp run"
    assert "head.dropout" not in outputs[6] and "metrics/evaluate.json" in outputs[6]
    assert (project.folder / "dvc_plots/index.html").is_file()
    assert ran(project.dvc("repro", "--dry")) == []

    with open(project.thaw / "thaw/figures/charts.py", "a", encoding="utf-8") as file:
        file.write("\nNEWER = True\n")
    with open(project.thaw / "thaw/training/loop.py", "a", encoding="utf-8") as file:
        file.write("# newer\n")
    refusal = "thaw.figures: the installed thaw "
    assert f"figures: {refusal}" in project.dvc("repro", "--single-item", "--force", "figures", check=False)
    refused = project.dvc("exp", "run", "-S", "recipe=demo", check=False)
    assert refused.startswith(f"ERROR: {refusal}") and refused.count("\n") == 1 and "`thaw upgrade`" in refused
    assert "will run again: figures\n" in project.run("thaw", "upgrade")
    assert ran(project.dvc("repro")) == ["figures"]
    assert "nothing to do" in project.run("thaw", "upgrade")
