"""GPUs are shared out among the stages that run at the same time: each takes one or more, by locks, while it runs.

A lock is an empty file in /tmp, named by the GPU's UUID: the one folder that all checkouts and users of a machine
share, whatever TMPDIR says, and a name that no order of devices changes.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from thaw.runtime.locks import lock_of_all_users

LOCKS = Path("/tmp")

VISIBLE = "CUDA_VISIBLE_DEVICES"

# Seconds between two looks at whether a GPU is free.
_PERIOD = 0.2

# Seconds after which a driver that does not answer is taken for none.
_PATIENCE = 60

# The locks of the GPUs that this process has.
held: ExitStack | None = None
# VISIBLE as it was before that.
_asked: str | None = None


def take_gpu(stage: str) -> None:
    """Take one GPU, as `take_gpus` does."""
    take_gpus(stage, lambda there: 1)


def take_gpus(stage: str, wanted: Callable[[int], int]) -> None:
    """Wait for free GPUs and make them the only ones that the backend will see, which is not loaded yet.

    They are held until `give_back_gpu`, or until this process ends. Nothing happens where there is no GPU, or none may
    be used, or no lock can be written. While some of several are taken, none is held: two stages that wait for each
    other's would wait for ever.

    Args:
        stage: says that it waits, and which GPUs it has.
        wanted: of the number of GPUs there are, how many to take.
    """
    global held, _asked
    gpus = usable_gpus()
    if not gpus:
        return
    count, waits = wanted(len(gpus)), False
    while True:
        try:
            locks, numbers = _lock(gpus, count)
        except OSError as error:  # read-only, or full
            print(f"{stage}: GPUs are not shared out: {LOCKS}: {error.strerror}", flush=True)
            return
        if len(numbers) == count:
            _asked, own = os.environ.get(VISIBLE), [gpus[number] for number in numbers]
            held, os.environ[VISIBLE] = locks, ",".join(own)
            if waits or len(gpus) > 1:
                told = " and ".join(str(number + 1) for number in numbers)
                print(f"{stage}: has GPU {told} of {len(gpus)}, {', '.join(own)}", flush=True)
            return
        locks.close()
        if not waits:
            what = "a GPU" if count == 1 else f"{count} GPUs"
            print(f"{stage}: waiting for {what}, {len(gpus) - len(numbers)} of {len(gpus)} are taken", flush=True)
            waits = True
        time.sleep(_PERIOD)


def _lock(gpus: list[str], count: int) -> tuple[ExitStack, list[int]]:
    """The locks and the numbers of the first GPUs that are free, `count` at most."""
    numbers: list[int] = []
    with ExitStack() as locks:
        for number, gpu in enumerate(gpus):
            lock = lock_of_all_users(LOCKS / f"thaw-{gpu.replace('/', '-')}.lock") if len(numbers) < count else None
            if lock:
                locks.enter_context(lock)
                numbers.append(number)
        return locks.pop_all(), numbers


def give_back_gpu() -> None:
    """Let others have the GPUs that were taken, if any were."""
    global held
    if held:
        held.close()
    held = None


def holds_gpus() -> bool:
    """Whether this process has taken GPUs, which VISIBLE names."""
    return held is not None


def choice_of_gpus() -> str | None:
    """VISIBLE for a process that is to take a GPU of its own: as it was before this process took one."""
    return _asked if held else os.environ.get(VISIBLE)


def usable_gpus() -> list[str]:
    """UUIDs of the GPUs and MIG devices that this process may use."""
    asked = os.environ.get(VISIBLE)
    if asked == "":
        return []
    try:
        # Asking the backend would take memory on all of them.
        command = ["nvidia-smi", "-L"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return visible_gpus(result.stdout, asked) if result.returncode == 0 else []


def visible_gpus(listed: str, asked: str | None) -> list[str]:
    """UUIDs of the devices to share out.

    Args:
        listed: what `nvidia-smi -L` says.
        asked: CUDA_VISIBLE_DEVICES. As in CUDA, entries are numbers, UUIDs or their first characters, and count up to
            the first that names no device. Numbers are those of nvidia-smi. None: all devices.
    """
    # A GPU that is partitioned is used by its parts, each of which stands below it.
    gpus: list[list[str]] = []
    for uuid in re.findall(r"UUID: ([^)\s]+)\)", listed):
        if uuid.startswith("MIG-"):
            gpus[-1].append(uuid)
        else:
            gpus.append([uuid])
    if asked is None:
        return _flat(gpus)
    devices: list[str] = []
    for entry in map(str.strip, asked.split(",")):
        if entry.isdecimal():
            named = _flat(gpus[int(entry) : int(entry) + 1])
        else:
            named = _flat(gpu for gpu in gpus if entry and gpu[0].startswith(entry))
            named = named or [part for part in _flat(gpus) if entry and part.startswith(entry)]
        if not named:
            break
        devices += [device for device in named if device not in devices]
    return devices


def _flat(gpus: Iterable[list[str]]) -> list[str]:
    return [device for gpu in gpus for device in gpu[1:] or gpu]
