"""README and docs/: links lead somewhere, commands can be typed, and the site builds."""

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.project import ROOT, Project
from thaw.__main__ import build_parser

DOCS = sorted((ROOT / "docs").glob("*.md"))
TYPED = [ROOT / "README.md", *DOCS]
PAGES = [*TYPED, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
TARGETS = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^(```[\s\S]*?^```|    .*)$", "", text, flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them; the site's are the same."""
    found: Counter[str] = Counter()
    for title in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        found[re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")] += 1
    return {f"{slug}-{n}" if n else slug for slug, times in found.items() for n in range(times)}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(page))):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not re.match(r"https?:", link) and not (target.exists() and (not anchor or anchor in anchors(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert broken_links(page) == []


def test_a_link_to_nothing_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title\n[a](#a-title) [b](#another) [c](page.md#a-title) [d](none.md) [e](page.md#none)\n")
    assert broken_links(page) == ["#another", "none.md", "page.md#none"]


def commands(page: Path, program: str) -> list[str]:
    """The command lines of a program, in blocks and between backticks, without those that only show a form."""
    found = re.findall(rf"(?:^    (?:\$ )?|`)({program} [^`\n]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [line for line in found if not re.search(r"[\[|]|\.\.\.| NAME$", line)]


@pytest.mark.parametrize("page", TYPED, ids=name)
def test_every_command_of_thaw_can_be_typed(page):
    for line in commands(page, "thaw"):
        words = shlex.split(line, comments=True)[1:]
        if len(words) > 1:
            assert build_parser("thaw").parse_args(words), line
        else:
            assert words[0].startswith("--") or f"thaw {words[0]}" in (ROOT / "docs/commands.md").read_text(), line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_target_of_make_exists(page):
    assert {line.split()[1] for line in commands(page, "make")} <= {*TARGETS}


def test_the_readme_has_150_lines_at_most():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_site_has_every_page_and_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert {page.with_suffix(".html").name for page in DOCS} <= {page.name for page in tmp_path.glob("*.html")}
    assert 'href="tutorial.html"' in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_line_for_exp_show_has_every_parameter_that_differs_and_no_dependency(tmp_path):
    (line,) = re.findall(r"^    (dvc exp show .*--drop .*)$", (ROOT / "docs/many-runs.md").read_text(), re.MULTILINE)
    project = Project(tmp_path)
    changed = ["head.units=128", "head.learning_rate=0.0005", "schedule.phases.top.epochs=7", "augment.views=2"]
    scores = '{"accuracy": %d, "accuracy_low": %d, "loss": %d, "macro_f1": %d, "source": {"accuracy": %d}}'
    for number, overrides in enumerate(([], changed)):
        project.run("python", "-m", "thaw", "params", "recipe=demo", *overrides)
        (project.folder / "metrics/evaluate.json").write_text(scores.replace("%d", str(number)), encoding="utf-8")
        (project.folder / "stages/evaluate.py").write_text(f"# {number}\n", encoding="utf-8")
        project.commit(str(number))
    header = project.dvc(*shlex.split(line)[1:], "--num", "2", "--csv").splitlines()[0]
    assert sorted(header.split(",")[1:]) == sorted(["accuracy", "loss", *(key.split("=")[0] for key in changed)])
