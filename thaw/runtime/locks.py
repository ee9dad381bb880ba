"""Locks between processes, by files."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thaw.runtime.files import _naming


@contextmanager
def locked(path: Path, who: str) -> Iterator[None]:
    """A lock that one process holds at a time, as long as the block lasts; the others say that they wait, and wait.

    Args:
        path: of the lock; holds the number of the process.
        who: says so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            print(f"{who}: waiting for process {file.read().decode() or 'unknown'}, which does the same", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        with _naming(path, path):
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield
