"""Locks between processes: one has them at a time, and who waits is known."""

import subprocess
import sys

from tests.helpers.project import ROOT
from thaw.runtime.locks import is_locked, locked, try_lock

WAITS = """
import sys
from pathlib import Path
from thaw.runtime.locks import locked, try_lock
if sys.argv[1] == "byte":
    with open("lock", "ab") as file:
        print(try_lock(file, 7), try_lock(file, 8))
else:
    with locked(Path("lock"), "b"):
        print("has it")
"""


def other(folder, how: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-uc", WAITS, how],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
    )


def test_who_waits_says_for_whom_and_the_holder_can_tell(tmp_path):
    with locked(tmp_path / "lock", "a") as others_wait:
        assert is_locked(tmp_path / "lock")
        assert not others_wait()
    with locked(tmp_path / "lock", "a") as others_wait:
        process = other(tmp_path, "whole")
        pid = (tmp_path / "lock").read_text()
        assert process.stdout.readline() == f"b: waiting for process {pid}, which does the same\n"
        assert others_wait()
    assert process.communicate(timeout=60)[0] == "has it\n"
    assert not is_locked(tmp_path / "lock")


def test_a_byte_of_an_empty_file_is_locked_by_itself(tmp_path):
    with open(tmp_path / "lock", "ab") as file:
        assert try_lock(file, 7)
        assert other(tmp_path, "byte").communicate(timeout=60)[0] == "False True\n"
    assert other(tmp_path, "byte").communicate(timeout=60)[0] == "True True\n"
    assert (tmp_path / "lock").stat().st_size == 0
