"""What pip installs: the wheel, the console command, and the versions that thaw is tested with."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import thaw
from tests.helpers.project import ROOT
from thaw.app.layout import layout
from thaw.config.compose import compose_params

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(name: str) -> dict[str, str]:
    """Version by package of a file of pins."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def ranges(lines: list[str]) -> list[Requirement]:
    requirements = [Requirement(line) for line in lines]
    return [requirement for requirement in requirements if requirement.name != PROJECT["name"]]


BASE, ADDED = pins("requirements.txt"), pins("requirements/extras.txt")


@pytest.mark.parametrize(
    "requirement", ranges([*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]), ids=str
)
def test_each_package_is_pinned_within_its_range(requirement):
    assert requirement.specifier, "no range"
    assert requirement.specifier.contains((BASE | ADDED)[requirement.name])


def required(name: str) -> set[str]:
    """The names of all packages that an installed one requires, whatever they require included."""
    found, left = set(), [name]
    while left:
        for requirement in map(Requirement, requires(left.pop()) or []):
            if requirement.name not in found and is_installed(requirement.name):
                found.add(requirement.name)
                left.append(requirement.name)
    return found


def is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def test_what_is_pinned_is_a_dependency_or_comes_with_an_extra():
    assert list(BASE) == sorted(requirement.name for requirement in ranges(PROJECT["dependencies"]))
    added = {requirement.name for extra in EXTRAS.values() for requirement in ranges(extra)} - set(BASE)
    assert list(ADDED)[: len(added)] == sorted(added)
    below = list(ADDED)[len(added) :]
    assert below == sorted(below) and set(below) <= required("dvc-s3") | required("moto")


def test_every_extra_that_a_text_or_a_message_names_exists():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    files = [*pages, ROOT / "Makefile", *(ROOT / "thaw").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    named = re.findall(r'-e "\.\[([a-z0-9,]+)\]"', text)
    assert {extra for names in named for extra in names.split(",")} == set(EXTRAS)


def test_pre_commit_checks_with_the_same_ruff_as_the_tests():
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (revision,) = (each["rev"] for each in repositories if each["repo"].endswith("/ruff-pre-commit"))
    assert revision == f"v{ADDED['ruff']}"


def test_the_workflow_tests_the_first_and_the_last_python_that_is_supported():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    supported = [f"3.{minor}" for minor in range(30) if SpecifierSet(PROJECT["requires-python"]).contains(f"3.{minor}")]
    assert tested == [supported[0], supported[-1]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with an installed wheel, built from a copy: a build writes beside its sources."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for folder in ("thaw", "stages", "tests", "bench", "conf", ".dvc/plots"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, source / name)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    # With the environment's setuptools, as the tests need no package index.
    built = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(source), str(source)]
    subprocess.run([*pip, *built], check=True)
    (wheel,) = source.glob("*.whl")
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)], check=True)
    shutil.copy(wheel, target)
    return target


def test_the_wheel_holds_all_of_thaw_and_no_other_package(installed):
    (wheel,) = installed.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (file for file in (ROOT / "thaw").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    laid = {name for name in names if name.startswith("thaw/project/")}
    assert names - laid == {file.relative_to(ROOT).as_posix() for file in files}
    assert {"thaw/project/dvc.yaml", "thaw/project/.dvc/plots/page.html", "thaw/project/conf/config.yaml"} <= laid


def test_the_wheel_lays_the_project_that_a_checkout_lays(installed, run, tmp_path):
    run(str(installed / "bin/thaw"), "new", "own")
    laid = [file for file in (tmp_path / "own").rglob("*") if file.is_file() and ".git" not in file.parts]
    texts = {file.relative_to(tmp_path / "own").as_posix(): file.read_text(encoding="utf-8") for file in laid}
    assert texts.pop("params.yaml") and texts.pop(".thaw.json")
    checkouts = layout("own", None)
    # The address of each, that pip has.
    assert re.fullmatch(
        rf"thaw @ file://.*/thaw-{re.escape(thaw.__version__)}-py3-none-any\.whl\n", texts.pop("requirements.txt")
    )
    assert checkouts.pop("requirements.txt").startswith("-e file://")
    assert texts == checkouts


@pytest.fixture
def run(installed, tmp_path):
    """Runs a command away from a checkout; returns its standard output."""

    def command(*words: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(installed)}
        return subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    return command


def test_usage_names_the_command_as_it_was_called(installed, run):
    console, module = str(installed / "bin/thaw"), [sys.executable, "-m", "thaw"]
    assert run(console, "--version") == run(*module, "--version") == f"thaw {thaw.__version__}\n"
    assert run(console, "predict", "--help").startswith("usage: thaw predict ")
    assert run(*module, "predict", "--help").startswith("usage: python -m thaw predict ")


def test_stages_need_no_checkout(installed, run, tmp_path):
    compose_params(["recipe=demo"], tmp_path / "params.yaml", ROOT / "conf")
    for stage in ("download", "preprocess"):
        run(str(installed / "bin/thaw"), "stage", stage)
    assert len(np.load(tmp_path / "data/processed/test/labels.npy")) == 602
    assert (tmp_path / "metrics/time/preprocess.json").is_file()
