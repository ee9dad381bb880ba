"""What every stage does around its work: check the parameters, take the time, end in one line."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from thaw import device, files, gpus, once, params, paths
from thaw.errors import ParamError, ThawError, out_of_memory
from thaw.memory import PeakMemory

# Seconds between two looks at whether DVC still runs.
_PERIOD = 0.5


class Stopped(BaseException):
    """A signal asks the process to end; not an Exception, so that nothing on the way takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(name: str, work: Callable[[params.Params], float | None], *, keras: bool = False) -> None:
    """Run a stage as a program.

    Args:
        name: of the DVC stage; its seconds, but for those that it waited, and its peak memory go into
            metrics/time/<name>.json, what it computed on into metrics/provenance/<name>.json.
        work: what the stage does, given all parameters; returns seconds that earlier processes worked on it.
        keras: set up the backend before `work` imports what needs Keras.
    """
    _listen()
    _end_with_dvc(name)
    try:
        settings = params.load()
        _, one_of_many, phase = name.partition("@")
        if one_of_many and phase not in settings.schedule.phases:
            raise ParamError("phase", phase, ", ".join(settings.schedule.phases) or "none, as schedule.phases is empty")
        # DVC starts a stage beside one of an earlier DVC that was killed: two must not write one folder.
        with (
            files.locked(Path(".dvc/tmp/thaw") / f"{name}.lock", name),
            once.made(name) as made,
            PeakMemory() as memory,
        ):
            if made:
                return
            if keras:
                gpus.take(name)
            started = time.perf_counter()  # to wait is no work
            if keras:
                print(f"{name}: {device.use(settings.backend, settings.device)}", flush=True)
                files.write_json(paths.METRICS / "provenance" / f"{name}.json", device.provenance())
            seconds = (work(settings) or 0) + time.perf_counter() - started
            spent = {"seconds": round(seconds, 2), "peak_gb": round(memory.gb, 2)}
            files.write_json(paths.METRICS / "time" / f"{name}.json", spent)
    except ThawError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        sys.exit(f"{name}: {error.strerror or error}{where}; when the cause is gone, `dvc repro` goes on")
    except Exception as error:
        if not out_of_memory(error):
            raise
        sys.exit(f"{name}: out of memory; lower batch_size, extract.batch_size or backbone.image_size ({_sizes()})")
    except Stopped as stopped:
        what = signal.Signals(stopped.number).name
        print(f"{name}: ended by {what}; the next run goes on from what is saved", file=sys.stderr, flush=True)
        sys.exit(128 + stopped.number)


def _parents() -> list[int]:
    """The process that started this one and, where that is but the shell of DVC's command, the one above.

    That shell has the command in its own; DVC has it not, and may be any program that has it as a library.
    """
    parent = os.getppid()
    try:
        shell = b"stages." in Path(f"/proc/{parent}/cmdline").read_bytes()
        # PID (NAME) STATE PARENT ...; the name may have anything in it.
        status = Path(f"/proc/{parent}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1]
        above = int(status.split()[1])
    except (OSError, ValueError, IndexError):  # another system: most shells hand their process over to the command
        return [parent]
    return [parent, above] if shell else [parent]


def _sizes() -> str:
    chosen = params.load()
    return f"now {chosen.batch_size}, {chosen.extract.batch_size} and {chosen.backbone.image_size}"


def _listen() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.unraisablehook = _stop_again


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
    _listen()
    # When that is over.
    threading.Timer(0.1, os.kill, (os.getpid(), lost.exc_value.number)).start()


def _end_with_dvc(name: str) -> None:
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
