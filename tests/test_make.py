"""The Makefile, where nothing has to be installed."""

import shutil
import subprocess
import sys

import pytest

from tests.project import ROOT


@pytest.mark.parametrize("before", ["nothing", "an environment without pip"])
def test_an_environment_is_made_or_mended(tmp_path, before):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").touch()
    if before != "nothing":
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=tmp_path, check=True)
    subprocess.run(["make", ".venv/installed", "VENV=.venv", f"PYTHON={sys.executable}"], cwd=tmp_path, check=True)
    subprocess.run([".venv/bin/python", "-m", "pip", "--version"], cwd=tmp_path, check=True)
