"""The Makefile, where nothing has to be installed."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers.project import ROOT

# A project that needs no package index to be installed: it builds itself, into a package of nothing.
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{wheel_directory}/thaw-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thaw-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: thaw\\nVersion: 1\\n")
        wheel.writestr("thaw-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("thaw-1.dist-info/RECORD", "")
    return "thaw-1-py3-none-any.whl"
"""


def planned(folder, *arguments: str, **variables: str) -> str:
    """What make would do in a folder."""
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "VENV")}
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "requirements.txt").touch()
    command = ["make", "--dry-run", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment | variables, check=True, capture_output=True, text=True
    ).stdout


def has_thaw(environment):
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/thaw").touch()


def test_the_active_environment_is_used_as_it_is_if_it_has_thaw(tmp_path):
    mine, checkout = tmp_path / "mine", tmp_path / "checkout"
    checkout.mkdir()
    assert "installing thaw into .venv" in planned(checkout, "compare", VIRTUAL_ENV=str(mine))
    has_thaw(mine)
    done = planned(checkout, "compare", VIRTUAL_ENV=str(mine))
    assert "installing" not in done
    assert f'PATH="{mine}/bin:' in done
    assert "installing thaw into .venv" in planned(checkout, "compare", "VENV=.venv", VIRTUAL_ENV=str(mine))


def test_the_demo_uses_the_environment_of_the_checkout_around_it(tmp_path):
    demo = tmp_path / "demo"
    demo.mkdir()
    has_thaw(tmp_path / ".venv")
    for target in ("compare", "report"):
        done = planned(demo, target)
        assert "installing" not in done
        assert f'PATH="{tmp_path}/.venv/bin:' in done


def test_an_environment_that_was_made_here_comes_first_and_is_brought_up_to_date(tmp_path):
    has_thaw(tmp_path / "mine")
    has_thaw(tmp_path / ".venv")
    (tmp_path / ".venv/installed").touch()
    os.utime(tmp_path / ".venv/installed", (0, 0))
    done = planned(tmp_path, "compare", VIRTUAL_ENV=str(tmp_path / "mine"))
    assert "installing thaw into .venv" in done


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "an environment without pip"])
def test_an_environment_is_made_or_mended(tmp_path, before):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    if before != "nothing":
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=tmp_path, check=True)
    subprocess.run(["make", ".venv/installed", "VENV=.venv", f"PYTHON={sys.executable}"], cwd=tmp_path, check=True)
    installed = subprocess.run([".venv/bin/python", "-m", "pip", "list"], cwd=tmp_path, check=True, capture_output=True)
    assert b"thaw" in installed.stdout
