"""Locks between processes, by files; the kernel releases those of a process that ends, however it does.

Start at `locked`. `try_lock` is what the others are made of.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from thaw.runtime.files import naming


def try_lock(file: IO[bytes], byte: int | None = None) -> bool:
    """Lock a file until it is closed, or one byte of it, which need not be there; False where another process has it.

    Args:
        file: open; for a byte of it, to write to.
        byte: its place.
    """
    try:
        if byte is None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):  # systems differ
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether a process has the lock of an existing file."""
    with open(path, "rb") as file:
        return not try_lock(file)


@contextmanager
def locked(path: Path, who: str) -> Iterator[Callable[[], bool]]:
    """A lock that one process holds at a time, as long as the block lasts; the others say that they wait, and wait.

    Args:
        path: of the lock; holds the number of the process.
        who: says so.

    Returns:
        Tells whether others wait for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".waiting"), "ab") as waiting, open(path, "a+b", buffering=0) as file:
        # Who waits holds this one, shared, from before it tries the lock.
        fcntl.flock(waiting, fcntl.LOCK_SH)
        if not try_lock(file):
            file.seek(0)
            print(f"{who}: waiting for process {file.read().decode() or 'unknown'}, which does the same", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        with naming(path, path):
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        fcntl.flock(waiting, fcntl.LOCK_UN)
        yield lambda: not try_lock(waiting)


def lock_of_all_users(path: Path) -> IO[bytes] | None:
    """Lock a file that may be another user's, without waiting; None where another process has it.

    Raises:
        OSError: there is no such file, and none can be made.
    """
    with ExitStack() as opened:
        # Kernels may refuse to open another's file in a folder like /tmp with a flag that would also create it.
        if not path.exists():
            with suppress(FileExistsError), open(path, "xb") as created:
                os.fchmod(created.fileno(), 0o666)
        file = opened.enter_context(open(path, "rb"))
        if not try_lock(file):
            return None
        # So that it is not old: what is old in /tmp is deleted by some systems.
        os.utime(file.fileno())
        if os.fstat(file.fileno()).st_nlink == 0:  # deleted since it was opened: others lock another file
            return None
        opened.pop_all()
        return file
