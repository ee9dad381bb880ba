"""A bar in a terminal, a line now and then in a log, and what is said of the time that is left."""

import fcntl
import os
import pty
import random
import re
import struct
import subprocess
import sys
import termios
import threading

import pytest

from tests.helpers.project import ROOT
from thaw.runtime import progress
from thaw.runtime.progress import Progress, format_duration

# 40 units in a second, after a first one that takes half of one; then the line that stays.
WORK = """
import time
from thaw.runtime import progress
progress.PERIOD = 0.3
with progress.Progress("extract: view1", 40, "images") as doing:
    time.sleep(0.5)
    for done in range(1, 41):
        doing.reach(done)
        time.sleep(0.025)
print("extract: view1, 40 images")
"""


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when they are told to."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def drawn(code: str, columns: int) -> tuple[str, str]:
    """What a program writes to a terminal of that width on standard error, and to a pipe on standard output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # how Linux says that nobody has the other end any more
            break
        if not part:
            break
        written += part
    os.close(ours)
    lines = process.stdout.read()
    assert process.wait() == 0, written
    return written.decode(), lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1 h 30 min"), (86_700, "24 h 05 min")],
)
def test_a_duration_has_the_units_that_suit_it(seconds, text):
    assert format_duration(seconds) == text


def test_lines_beside_a_bar_are_not_mixed_with_it():
    code = """
import sys
from thaw.runtime.progress import Progress
with Progress("predict", 2, "files") as doing:
    with doing.aside():
        print("a line", file=sys.stderr)
"""
    before, after = drawn(code, columns=100)[0].split("a line\r\n")
    assert re.search(r"predict, 0 of 2 files *\r +\r$", before), "drawn, then erased"
    assert "predict, 0 of 2 files" in after, "and drawn again"


def test_a_bar_in_a_terminal_grows_says_what_is_left_and_goes():
    bar, lines = drawn(WORK, columns=100)
    drawings = [part for part in bar.split("\r") if "extract: view1" in part]
    percent = [int(re.search(r"(\d+)%", part)[1]) for part in drawings]
    assert percent[0] == 0
    assert percent == sorted(percent)
    assert percent[-1] > 50
    assert re.search(r"extract: view1, \d+ of 40 images, [0-9]+ s left$", drawings[-1].rstrip())
    # The last that is drawn is blank, as wide as the bar was.
    assert bar.endswith("\r")
    assert bar.split("\r")[-2].strip() == ""
    assert len(bar.split("\r")[-2]) >= len(drawings[-1].rstrip())
    assert lines == "extract: view1, 40 images\n"


def test_a_bar_fits_a_narrow_terminal():
    bar, _ = drawn(WORK, columns=30)
    assert "extract" in bar
    assert all(len(part) <= 30 for part in bar.split("\r"))


def test_a_terminal_without_a_size_gets_lines():
    bar, lines = drawn(WORK, columns=0)
    assert bar == ""
    assert "extract: view1, " in lines


def test_a_log_gets_plain_lines_and_no_more_than_one_a_period():
    result = subprocess.run([sys.executable, "-c", WORK], cwd=ROOT, capture_output=True, check=True)
    assert result.stderr == b""
    assert b"\r" not in result.stdout
    *told, last = result.stdout.decode().splitlines()
    assert last == "extract: view1, 40 images"
    assert told[0] == "extract: view1, 1 of 40 images"  # how fast it goes is not known yet
    assert len(told) > 2
    for line in told[1:]:
        assert re.fullmatch(r"extract: view1, \d+ of 40 images, \d+ s left", line)


def test_lines_come_every_half_minute_and_do_not_count_the_first_of_the_work(clock, capsys):
    with Progress("unfreeze@all: epoch 1 of 5", 100, "steps") as doing:
        clock(20)  # compiles
        for done in range(1, 101):
            doing.reach(done)
            clock(1)
    assert doing.extra() == pytest.approx(19)
    assert capsys.readouterr().out.splitlines() == [
        "unfreeze@all: epoch 1 of 5, 11 of 100 steps, 89 s left",
        "unfreeze@all: epoch 1 of 5, 41 of 100 steps, 59 s left",
        "unfreeze@all: epoch 1 of 5, 71 of 100 steps, 29 s left",
    ]


def test_work_that_goes_on_is_not_taken_for_fast(clock, capsys):
    with Progress("extract: view0", 50_000, "images", 40_000) as doing:
        for done in range(41_000, 50_001, 1000):
            clock(10)
            doing.reach(done)
    assert capsys.readouterr().out.splitlines() == [
        "extract: view0, 43,000 of 50,000 images, 70 s left",
        "extract: view0, 46,000 of 50,000 images, 40 s left",
        "extract: view0, 49,000 of 50,000 images, 10 s left",
    ]
    assert doing.extra() == 0


def test_short_work_has_no_line_and_no_first_that_took_longer(clock, capsys):
    with Progress("evaluate: test", 10, "images") as doing:
        clock(5)
        doing.reach(10)
    assert doing.extra() == 0
    assert capsys.readouterr().out == ""


def test_of_an_unknown_total_what_is_done_is_told(clock, capsys):
    with Progress("download: archive", None, "MB") as doing:
        clock(31)
        doing.reach(12.4)
    assert capsys.readouterr().out == "download: archive, 12 MB\n"


def test_threads_may_tell_in_any_order(clock, capsys):
    numbers = list(range(1, 2001))
    random.Random(0).shuffle(numbers)
    with Progress("train_head: epoch 1 of 2", 2000, "steps") as doing:
        parts = [numbers[start::8] for start in range(8)]
        threads = [threading.Thread(target=lambda part=part: [doing.reach(n) for n in part]) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clock(31)
        doing.reach(1999)  # late
        assert str(doing).startswith("train_head: epoch 1 of 2, 2,000 of 2,000 steps")
    assert capsys.readouterr().out == ""
