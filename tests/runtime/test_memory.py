"""The peak memory that is written beside a stage's seconds."""

import mmap
import sys

import numpy as np
import pytest

from thaw.runtime.memory import PeakMemory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


def test_memory_that_was_given_back_is_in_the_peak():
    with PeakMemory() as memory:
        before = memory.gb
        held = np.ones(60_000_000, np.uint8)
        while memory.gb < before + 0.05:
            held += 1  # ends when a reading has seen it
        del held
    assert before > 0
    assert before + 0.05 < memory.gb < before + 0.2


def test_pages_of_a_mapped_file_are_not(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(100_000_000))
    with PeakMemory() as memory, file.open("rb") as opened:
        before = memory.gb
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert np.frombuffer(mapped, np.uint8)[::4096].sum() == 0
    assert memory.gb < before + 0.05


def test_a_system_that_does_not_tell_gives_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(PeakMemory, "STATUS", tmp_path / "no such file")
    with PeakMemory() as memory:
        pass
    assert memory.gb == 0
