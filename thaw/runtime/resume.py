"""Saved state of a stage that is not done: a run that is killed loses an epoch or a chunk at most.

State lies beside DVC's cache, under a key of what DVC watches for the stage (`watched.py`), the versions and the
machine. So no run ever goes on from another's state, and queued and temporary runs find theirs; what DVC runs nothing
again for, as an edit in thaw/runtime, drops no state.
"""

import configparser
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from thaw import paths
from thaw.errors import ThawError
from thaw.runtime.files import SealedFolder, digest, replacing, sha256, write_json, write_sealed
from thaw.runtime.locks import is_locked, locked
from thaw.runtime.watched import read_watched

# Set to drop what was saved and start anew.
FRESH = "THAW_FRESH"


STATE_JSON = "state.json"


# Seconds after which state that nobody came back for is deleted: two weeks.
KEPT = 14 * 24 * 3600


class State:
    """What one run of a stage has saved: a JSON and lists of arrays, each list in a file of its own.

    A save counts from the moment that its JSON is renamed into place; until then the one before does.

    Attributes:
        stage: whose.
        folder: where; anything else may lie in it, too.
        content: of the JSON that was last saved; None where there is none, or none that is whole.
        earlier: seconds that other processes worked on it, up to what they saved last.
    """

    def __init__(self, stage: str, folder: Path, writes: bool = True) -> None:
        self.stage, self.folder, self._writes = stage, folder, writes
        self.content: dict[str, Any] | None = None
        self.earlier, self._started = 0.0, time.perf_counter()
        self._hashes: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / STATE_JSON).exists():
            try:
                sealed = SealedFolder(folder / STATE_JSON)
                for name in sealed.hashes:
                    sealed.file(name)
                self.content, self.earlier = sealed.content["content"], sealed.content["seconds"]
                self._hashes = sealed.hashes
            except ThawError:
                print(f"{stage}: the saved state is damaged and not used", flush=True)

    def save(
        self, content: dict[str, Any], arrays: Mapping[str, Sequence[np.ndarray]], keep: Sequence[str] = ()
    ) -> None:
        """Save, in place of what was saved before.

        Args:
            content: goes into the JSON.
            arrays: what to write, under names that no earlier save has used.
            keep: names of earlier saves that are still needed; all others are deleted.
        """
        if not self._writes:
            return
        hashes = {name: self._hashes[name] for name in map(_file, keep) if name in self._hashes}
        for name, values in arrays.items():
            tensors = {str(number): np.asarray(value, order="C") for number, value in enumerate(values)}
            with replacing(self.folder / _file(name)) as beside:
                beside.write_bytes(safetensors.save(tensors))
                hashes[_file(name)] = sha256(beside)
        seconds = self.earlier + time.perf_counter() - self._started
        write_sealed(self.folder / STATE_JSON, {"content": content, "sha256": hashes, "seconds": seconds})
        for name in self._hashes.keys() - hashes.keys():
            (self.folder / name).unlink(missing_ok=True)
        self.content, self._hashes = content, hashes

    def arrays(self, name: str) -> list[np.ndarray]:
        """What was saved under a name."""
        try:
            tensors = safetensors.load_file(self.folder / _file(name))
        except (OSError, SafetensorError) as error:  # its hash was right a moment ago
            raise RuntimeError(f"{self.folder / _file(name)}: {error}") from None
        return [tensors[str(number)] for number in range(len(tensors))]


def _file(name: str) -> str:
    return f"{name}.safetensors"


def state_home() -> Path:
    """The folder of all state: beside DVC's cache, in the main checkout's where a run works in a temporary copy.

    Where nothing can be written there, it is .dvc/thaw.
    """
    dvc = paths.main_checkout() / ".dvc"
    config = configparser.ConfigParser(interpolation=None, strict=False)
    config.read([dvc / "config", dvc / "config.local"], encoding="utf-8")
    cache = config.get("cache", "dir", fallback="cache")
    beside = (dvc / cache).resolve().parent / "thaw"
    # A cache that many people share may lie where they may not write.
    lies = next(folder for folder in (beside, *beside.parents) if os.path.exists(folder))
    return beside if os.access(lies, os.W_OK | os.X_OK) else dvc / "thaw"


def saved_states() -> dict[str, float]:
    """Seconds of work that all saved state holds, but that of runs that are under way, by name of its folder."""
    root, found = state_home(), {}
    for folder in sorted(path.parent for path in root.glob(f"*/{STATE_JSON}")):
        if folder.name not in _under_way(root):
            try:
                found[folder.name] = float(SealedFolder(folder / STATE_JSON).content["seconds"])
            except ThawError:  # damaged: nothing would go on from it
                found[folder.name] = 0.0
    return found


def _under_way(root: Path) -> set[str]:
    return {lock.stem for lock in root.glob("*.lock") if is_locked(lock)}


def drop_states() -> list[str]:
    """Delete all state but that of runs that are under way; the names of what is left for these."""
    root = state_home()
    left = _under_way(root)
    for path in root.glob("*"):
        if path.stem not in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not left and root.exists():
        root.rmdir()
    return sorted(left)


@contextmanager
def open_state(stage: str, parameters: Mapping[str, Any], inputs: Sequence[Path], machine: str) -> Iterator[State]:
    """The state of a run, for one process at a time; it is deleted when the block ends without an error.

    Where another process has it, this one waits, says for whom, and goes on from what that one left.

    Args:
        stage: name of the DVC stage; what dvc.yaml has it depend on is part of the key.
        parameters: that the result follows from, whatever dvc.yaml says.
        inputs: files and folders, as well.
        machine: what computes, as well.

    Raises:
        ThawError: dvc.yaml or params.yaml is no YAML.
    """
    parts, folder = _key(stage, parameters, inputs, machine)
    root = folder.parent
    root.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.lock"), stage) as others_wait:
        if os.environ.get(FRESH):
            shutil.rmtree(folder, ignore_errors=True)
        _tell(root, stage, folder, parts)
        state = State(stage, folder)
        write_json(folder / "key.json", parts)
        yield state
        if not others_wait():
            shutil.rmtree(folder, ignore_errors=True)


def read_state(stage: str, parameters: Mapping[str, Any], inputs: Sequence[Path], machine: str) -> State:
    """The state that another process has open, which `save` does not change; arguments as for `open_state`."""
    return State(stage, _key(stage, parameters, inputs, machine)[1], writes=False)


def _key(
    stage: str, parameters: Mapping[str, Any], inputs: Sequence[Path], machine: str
) -> tuple[dict[str, Any], Path]:
    """The parts of the key of a state, and its folder."""
    watched = read_watched(stage)
    packages = ["keras", "numpy", *filter(None, [os.environ.get("KERAS_BACKEND")])]
    parts = {
        "parameters": dict(parameters) | watched.parameters,
        "inputs": {path.as_posix(): digest(path) for path in inputs} | watched.inputs,
        "code": watched.code,
        "versions": {name: version(name) for name in packages},
        "machine": machine,
    }
    text = json.dumps(parts, sort_keys=True)
    return parts, state_home() / f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _tell(root: Path, stage: str, folder: Path, parts: dict[str, Any]) -> None:
    """Say that there is state of another key, and what differs; delete what is old."""
    for other in root.glob(f"{stage}-*/key.json"):
        if other.parent == folder:
            continue
        try:
            if time.time() - other.stat().st_mtime > KEPT:
                shutil.rmtree(other.parent, ignore_errors=True)
                continue
            theirs = json.loads(other.read_text(encoding="utf-8"))
            differ = [
                _differing(name, theirs.get(name), part) for name, part in parts.items() if theirs.get(name) != part
            ]
        except (OSError, ValueError, AttributeError):  # OSError: its run has just ended
            continue
        print(f"{stage}: there is saved state with other {', '.join(differ)}; it is not used", flush=True)


def _differing(name: str, theirs: Any, ours: Any) -> str:
    """The name of a part, and of what in it differs."""
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return name
    keys = [key for key in theirs | ours if theirs.get(key) != ours.get(key)]
    return f"{name} ({', '.join(keys[:3])}{' ...' if keys[3:] else ''})"
