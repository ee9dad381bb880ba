"""The process of a stage: its output, signals, and the end of the dvc above it."""

import io
import os
import re
import signal
import sys
import threading
import time

import psutil

# A stage in DVC's command.
_COMMAND = re.compile(r"\bstages\.|\bthaw stage\b")
# Seconds between two looks at whether DVC still runs.
_PERIOD = 0.5


class Stopped(BaseException):
    """A signal asks the process to end; not an Exception, so that nothing on the way takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _parents() -> list[int]:
    """The process that started this one and, where that is but the shell of DVC's command, the one above.

    That shell has the command in its own; DVC has it not, and may be any program that has it as a library.
    """
    parent = os.getppid()
    try:
        shell = psutil.Process(parent)
        return [parent, shell.ppid()] if _COMMAND.search(" ".join(shell.cmdline())) else [parent]
    except psutil.Error:  # it has just ended, or is hidden
        return [parent]


def listen_for_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.unraisablehook = _stop_again


def escape_output() -> None:
    """Have letters escaped on standard output that its encoding lacks, as Python does on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _stop(number: int, frame: object) -> None:
    # Once: what is under way is to be cleaned up.
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)


def _stop_again(lost: "sys.UnraisableHookArgs") -> None:
    """Send a signal once more that came while an object was deleted, which no exception gets out of."""
    if not isinstance(lost.exc_value, Stopped):
        sys.__unraisablehook__(lost)
        return
    listen_for_signals()
    # When that is over.
    threading.Timer(0.1, os.kill, (os.getpid(), lost.exc_value.number)).start()


def end_with_dvc(name: str) -> None:
    """End this process when the DVC that started it is gone: nobody would take its output.

    DVC's own end does not end what it has started, and a new DVC deletes the outputs under its hands.
    """
    if "DVC_STAGE" not in os.environ:  # run by hand, perhaps to outlive the terminal
        return
    parents = _parents()

    def watch() -> None:
        while _parents() == parents:
            time.sleep(_PERIOD)
        print(f"{name}: the dvc that started this is gone", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
