"""What every stage does around its work: check the parameters, take the time, fail in one line."""

import sys
import time
from collections.abc import Callable

from thaw import device, files, params, paths
from thaw.errors import ThawError
from thaw.memory import PeakMemory


def run(name: str, work: Callable[[params.Params], None], *, keras: bool = False) -> None:
    """Run a stage as a program.

    Args:
        name: of the DVC stage; its seconds and peak memory go into metrics/time/<name>.json.
        work: what the stage does, given all parameters.
        keras: set up the backend before `work` imports what needs Keras.
    """
    started = time.perf_counter()
    try:
        with PeakMemory() as memory:
            settings = params.load()
            if keras:
                print(f"{name}: {device.use(settings.backend, settings.device)}", flush=True)
            work(settings)
    except ThawError as error:
        sys.exit(f"{name}: {error}")
    spent = {"seconds": round(time.perf_counter() - started, 2), "peak_gb": round(memory.gb, 2)}
    files.write_json(paths.METRICS / "time" / f"{name}.json", spent)
