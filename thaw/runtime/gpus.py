"""GPUs are shared out among the stages that run at the same time: each takes one, by a lock, while it runs.

A lock is an empty file in /tmp, named by the GPU's UUID: the one folder that all checkouts and users of a machine
share, whatever TMPDIR says, and a name that no order of devices changes.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from thaw.runtime.locks import lock_of_all_users

LOCKS = Path("/tmp")

VISIBLE = "CUDA_VISIBLE_DEVICES"

# Seconds between two looks at whether a GPU is free.
_PERIOD = 0.2

# Seconds after which a driver that does not answer is taken for none.
_PATIENCE = 60

# The lock of the GPU that this process has.
held: IO[bytes] | None = None
# VISIBLE as it was before that.
_asked: str | None = None


def take_gpu(stage: str) -> None:
    """Wait for a free GPU and make it the only one that the backend will see, which is not loaded yet.

    It is held until `give_back`, or until this process ends. Nothing happens where there is no GPU, or none may be
    used, or no lock can be written.

    Args:
        stage: says that it waits, and which GPU it has.
    """
    global held, _asked
    gpus = _usable()
    if not gpus:
        return
    waits = False
    while True:
        for number, gpu in enumerate(gpus, 1):
            try:
                lock = lock_of_all_users(LOCKS / f"thaw-{gpu.replace('/', '-')}.lock")
            except OSError as error:  # read-only, or full
                print(f"{stage}: GPUs are not shared out: {LOCKS}: {error.strerror}", flush=True)
                return
            if lock:
                _asked = os.environ.get(VISIBLE)
                held, os.environ[VISIBLE] = lock, gpu
                if waits or len(gpus) > 1:
                    print(f"{stage}: has GPU {number} of {len(gpus)}, {gpu}", flush=True)
                return
        if not waits:
            print(f"{stage}: waiting for a GPU, {len(gpus)} of {len(gpus)} are taken", flush=True)
            waits = True
        time.sleep(_PERIOD)


def give_back_gpu() -> None:
    """Let others have the GPU that was taken, if one was."""
    global held
    if held:
        held.close()
    held = None


def choice_of_gpus() -> str | None:
    """VISIBLE for a process that is to take a GPU of its own: as it was before this process took one."""
    return _asked if held else os.environ.get(VISIBLE)


def _usable() -> list[str]:
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
