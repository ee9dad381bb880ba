"""Disks that fill up and folders that nobody may write to."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


class Disk:
    """A disk in memory whose size can be changed while it is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def leave(self, free: int) -> None:
        """Make it so small that so many bytes are free."""
        state = os.statvfs(self.folder)
        self._resize((state.f_blocks - state.f_bfree) * state.f_frsize + free)

    def grow(self) -> None:
        self._resize(1 << 30)

    def _resize(self, size: int) -> None:
        _mount("-o", f"remount,size={size}", self.folder)


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """A disk at a folder."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", "size=1g", "none", folder)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nothing can be written to; root, too, may not."""
    if os.geteuid():
        mode = folder.stat().st_mode
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(mode)
        return
    _mount("--bind", folder, folder)
    try:
        _mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
