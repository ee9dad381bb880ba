"""Files that are whole or not there: written beside, flushed to the disk, renamed into place; and sealed folders.

A sealed folder is files and a JSON with their hashes and a hash of its own: `seal_folder` and `SealedFolder`.
"""

import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from thaw.errors import ThawError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it becomes `path` when the block ends without an error.

    Raises:
        OSError: nothing can be written there; that `path` is a folder or a device is told before the block.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "not a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    try:
        with naming(path, beside):
            yield beside
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Where to write what will become `path`; what killed processes left of that is deleted."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        process = left.name.split(".")[-2]
        if process.isdigit() and (int(process) == os.getpid() or not _runs(int(process))):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def naming(path: Path, beside: Path) -> Iterator[None]:
    """Have an error name what was to be written: that of a write on a full disk names nothing."""
    try:
        yield
    except OSError as error:
        # Without a number, what there is to say is in its text, which a name would replace.
        if error.errno is not None and (error.filename is None or Path(error.filename).is_relative_to(beside)):
            error.filename = str(path)
        raise


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file; where that fails, the error tells why, which those of `ndarray.tofile` do not."""
    with open(path, "wb") as file:
        np.save(SimpleNamespace(write=file.write), array)  # NumPy calls tofile on what it knows for a file


@contextmanager
def new_array(path: Path, shape: tuple[int, ...]) -> Iterator[np.memmap]:
    """A new .npy file of uint8 that is filled in place within the block: memory does not grow with it.

    The disk's room is taken first: where it ran out while the file is filled, the process would be killed.
    """
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    reserve(path)
    yield array
    array.flush()


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A path beside `path` for a file that is deleted when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    try:
        with naming(path, beside):
            yield beside
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON that `read_sealed` gives back only as it was written."""
    write_json(path, content | {"seal": _seal(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else, or was changed.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.pop("seal", None) != _seal(content):
        raise ValueError(f"{path}: not as it was written")
    return content


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Damaged(ThawError):
    """A file is missing or not as it was written.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: missing or damaged; `dvc repro` makes it")
        self.path = path


def damaged(path: Path) -> Damaged:
    """The error of a stage's output."""
    return Damaged(path)


def seal_folder(path: Path, content: dict[str, Any]) -> None:
    """Write the JSON of a sealed folder, whose other files are all there.

    Args:
        path: of the JSON.
        content: of the JSON, beside the hashes.
    """
    hashes = {file.name: sha256(file) for file in sorted(path.parent.iterdir())}
    write_sealed(path, content | {"sha256": hashes})


class SealedFolder:
    """The JSON of a sealed folder.

    Attributes:
        content: of the JSON.
        hashes: by name of a file beside it, as it was written.
    """

    def __init__(self, path: Path) -> None:
        """Read the JSON at `path`.

        Raises:
            ThawError: it is missing or damaged.
        """
        self.path = path
        try:
            self.content = read_sealed(path)
            self.hashes: dict[str, str] = self.content.pop("sha256")
        except (OSError, ValueError, KeyError):
            raise damaged(path) from None

    def file(self, name: str) -> Path:
        """The path of a file beside the JSON.

        Raises:
            ThawError: it is missing or damaged.
        """
        file = self.path.with_name(name)
        try:
            whole = sha256(file) == self.hashes.get(name)
        except OSError:
            whole = False
        if not whole:
            raise damaged(file)
        return file


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reserve(path: Path) -> None:
    """Have the disk keep room for all of a file that was given its length, but not written yet.

    Raises:
        OSError: there is not so much room.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or make a copy where the two do not lie on one disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def digest(path: Path) -> str:
    """A hash of a file, or of a folder: of its JSON alone where that holds the hashes of the others."""
    if path.is_file():
        return sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if any(file.parent == path and file.suffix == ".json" for file in files):
        files = [file for file in files if file.suffix == ".json"]
    names = [f"{file.relative_to(path).as_posix()} {sha256(file)}" for file in files]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`; it takes its place when the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(folder)
    try:
        with naming(folder, beside):
            beside.mkdir()
            yield beside
            shutil.rmtree(folder, ignore_errors=True)
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
