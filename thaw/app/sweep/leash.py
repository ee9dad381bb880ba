"""Runs a command that ends with the process that started it, however that one ends. Start at `main`.

python -m thaw.app.sweep.leash LOCK LOG FOLDER COMMAND...

A worker of Ray may be killed at any moment, and DVC would live on as an orphan. The other end of this program's
standard input is the worker's: when it closes, all that the command has started is ended. The lock is held until then,
so that another attempt waits for that end.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from thaw.runtime.locks import locked

# Seconds for a stage to write its state after SIGTERM.
_PATIENCE = 10.0
# Seconds between two looks at what runs.
_INTERVAL = 0.05


def main() -> None:
    lock, log, folder, *command = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches it by its standard input
        signal.signal(number, signal.SIG_IGN)
    with locked(Path(lock), "sweep"), open(log, "ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=_signals_as_usual,
        )  # fmt: skip
        worker_gone = threading.Event()
        threading.Thread(target=_watch, args=(worker_gone,), daemon=True).start()
        while process.poll() is None and not worker_gone.wait(_INTERVAL):
            pass
        _end(psutil.Process().children(recursive=True))
        code = process.wait()
    sys.exit(code if code >= 0 else 128 - code)


def _signals_as_usual() -> None:
    # An ignored signal stays ignored in what is started.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _watch(worker_gone: threading.Event) -> None:
    # Not by sys.stdin, whose lock Python would want at its end.
    while os.read(0, 1):
        pass
    worker_gone.set()


def _end(processes: list[psutil.Process]) -> None:
    """SIGTERM to all, and SIGKILL to those that are left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        end = time.monotonic() + _PATIENCE
        while (processes := [process for process in processes if _lives(process)]) and time.monotonic() < end:
            time.sleep(_INTERVAL)


def _lives(process: psutil.Process) -> bool:
    # psutil's own wait would take the exit code that `main` is to pass on.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
