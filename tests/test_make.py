"""The Makefile, where nothing has to be installed."""

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
