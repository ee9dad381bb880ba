"""How far a stage is and how long it will still take: a bar in a terminal, a line now and then in a log."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds between two lines of one piece of work in a log, and between two drawings of its bar.
PERIOD = 30.0


REDRAWN = 0.1


def in_terminal() -> bool:
    """Whether standard error is a terminal that has room for a bar."""
    try:
        return min(os.get_terminal_size(sys.stderr.fileno())) > 0
    except (OSError, ValueError):
        return False


def unseen(done: float) -> None:
    """What work may call instead of `Steps.reach` where nobody is told how far it is."""


def format_duration(seconds: float) -> str:
    """Seconds, minutes, or hours and minutes; to about a percent, which is more than is known."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


class Progress:
    """Tells how far a piece of work is, as long as its block lasts: `with Steps(...) as doing`.

    In a terminal that is a bar, gone at the end; in a log a line every 30 s, so that short work has none.
    """

    def __init__(self, what: str, total: float | None, unit: str, done: float = 0) -> None:
        """Begin.

        Args:
            what: is done, with the stage's name.
            total: units that it has; None where that is not known.
            unit: what is counted, in the plural.
            done: units that were done before.
        """
        self.what, self.total, self.unit = what, total, unit
        self._lock = threading.Lock()
        self._started = self._last = time.perf_counter()
        self._done = self._before = done
        # Where the measured speed starts: after the first of the work, which is compiled before.
        self._first: tuple[float, float] | None = None
        self._bar = self._draw() if in_terminal() else None
        self._due = self._started + (PERIOD if self._bar is None else REDRAWN)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def reach(self, done: float) -> None:
        """Tell that so many units are done, or more than all; from any thread, and in any order."""
        if self.total is not None:
            done = min(done, self.total)
        with self._lock:
            if done <= self._done:
                return
            self._done, self._last = done, time.perf_counter()
            if self._first is None:
                self._first = (self._last, done)
            if self._last < self._due:
                return
            if self._bar is not None:
                self._due = self._last + REDRAWN
                self._bar.n = done
                self._bar.set_description_str(str(self))
            else:
                self._due = self._last + PERIOD
                print(self, flush=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Hide the bar while the block prints to the terminal, where no other thread calls `reach`."""
        if self._bar is not None:
            self._bar.clear()
        yield
        if self._bar is not None:
            self._bar.refresh()

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total:,.0f}"
        text = f"{self.what}, {self._done:,.0f}{of} {self.unit}"
        speed = self._speed()
        if self.total is None or speed is None:
            return text
        return f"{text}, {format_duration((self.total - self._done) / speed)} left"

    def extra(self) -> float:
        """Seconds that the first of the work took longer than the rest of it; 0 where there was no rest."""
        speed = self._speed()
        if speed is None or self._first is None:
            return 0.0
        at, done = self._first
        return max(0.0, at - self._started - (done - self._before) / speed)

    def _speed(self) -> float | None:
        """Units a second, as measured without the first of the work."""
        if self._first is None:
            return None
        seconds, units = self._last - self._first[0], self._done - self._first[1]
        return units / seconds if units and seconds else None

    def _draw(self):
        from tqdm import tqdm

        shape = "{desc}" if self.total is None else "{percentage:3.0f}%|{bar:10}| {desc}"
        return tqdm(
            desc=str(self),
            initial=self._done,
            total=self.total,
            bar_format=shape,
            leave=False,
            dynamic_ncols=True,
            disable=False,
        )
