"""What every stage does around its work: check the parameters, take the time, end in one line."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from thaw import device, files, params, paths
from thaw.errors import ThawError
from thaw.memory import PeakMemory

# Seconds between two looks at whether DVC still runs.
_PERIOD = 0.5


class Stopped(BaseException):
    """A signal asks the process to end; not an Exception, so that nothing on the way takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(name: str, work: Callable[[params.Params], None], *, keras: bool = False) -> None:
    """Run a stage as a program.

    Args:
        name: of the DVC stage; its seconds and peak memory go into metrics/time/<name>.json, what it computed
            on into metrics/provenance/<name>.json.
        work: what the stage does, given all parameters.
        keras: set up the backend before `work` imports what needs Keras.
    """
    started = time.perf_counter()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    _end_with_dvc(name)
    try:
        # DVC starts a stage beside one of an earlier DVC that was killed: two must not write one folder.
        with files.locked(Path(".dvc/tmp/thaw") / f"{name}.lock", name), PeakMemory() as memory:
            settings = params.load()
            if keras:
                print(f"{name}: {device.use(settings.backend, settings.device)}", flush=True)
                files.write_json(paths.METRICS / "provenance" / f"{name}.json", device.provenance())
            work(settings)
            spent = {"seconds": round(time.perf_counter() - started, 2), "peak_gb": round(memory.gb, 2)}
            files.write_json(paths.METRICS / "time" / f"{name}.json", spent)
    except ThawError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        sys.exit(f"{name}: {error.strerror or error}{where}; when the cause is gone, `dvc repro` goes on")
    except Exception as error:
        if not _out_of_memory(error):
            raise
        sys.exit(f"{name}: out of memory; lower batch_size, extract.batch_size or backbone.image_size ({_sizes()})")
    except Stopped as stopped:
        what = signal.Signals(stopped.number).name
        print(f"{name}: ended by {what}; the next run goes on from what is saved", file=sys.stderr, flush=True)
        sys.exit(128 + stopped.number)


def _parents() -> list[int]:
    """The process that started this one and, where that is but the shell of DVC's command, the one above."""
    parent = os.getppid()
    try:
        shell = b"dvc" not in Path(f"/proc/{parent}/cmdline").read_bytes()
        # PID (NAME) STATE PARENT ...; the name may have anything in it.
        status = Path(f"/proc/{parent}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1]
        above = int(status.split()[1])
    except (OSError, ValueError, IndexError):  # another system: most shells hand their process over to the command
        return [parent]
    return [parent, above] if shell else [parent]


def _out_of_memory(error: Exception) -> bool:
    """Whether a device or the machine had no more memory; TensorFlow and JAX say so in their own words."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "OOM when allocating" in str(error)


def _sizes() -> str:
    chosen = params.load()
    return f"now {chosen.batch_size}, {chosen.extract.batch_size} and {chosen.backbone.image_size}"


def _stop(number: int, frame: object) -> None:
    # Once: what is under way is to be cleaned up.
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)


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
