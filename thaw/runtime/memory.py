"""How much memory a process needs."""

import threading
from pathlib import Path


class PeakMemory:
    """The most anonymous memory of this process while the block runs, in GB (1e9 bytes).

    Pages of memory-mapped files are not counted: the system drops them when it needs room.

    Attributes:
        gb: so far; 0 where the system does not tell (Linux does).
    """

    STATUS = Path("/proc/self/status")
    # Seconds between two readings: a step takes longer.
    PERIOD = 0.05

    def __init__(self) -> None:
        self.gb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._read()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._read()

    def _watch(self) -> None:
        while not self._stop.wait(self.PERIOD):
            self._read()

    def _read(self) -> None:
        self.gb = max(self.gb, anonymous_gb(self.STATUS))


def anonymous_gb(status: Path) -> float:
    """The anonymous memory of a process, in GB, from its file of that name in /proc; 0 where the system has none."""
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0) * 1024 / 1e9
