"""What experiments side by side have in common is made once: the others wait and take it from DVC's cache.

DVC looks into its run cache before it starts a stage. Two workers of its queue that start one stage at the same
moment both find nothing, and would both work. So a stage of an experiment in a temporary copy holds a lock of its
key in the run cache. Who gets it after another has made the same restores that, once DVC has put it into the cache.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import psutil

from thaw import paths
from thaw.runtime.locks import try_lock

# In a checkout or a copy of it; what lies in a copy is deleted with it.
_OURS = Path(".dvc/tmp/thaw")

_RWLOCK = Path(".dvc/tmp/rwlock")

# Names of entries of the run cache: hashes. DVC writes each beside, with another name.
_ENTRY = re.compile(r"[0-9a-f]{64}").fullmatch

# Seconds between two looks at whether DVC has saved what another run made.
_PERIOD = 0.2


@contextmanager
def made_elsewhere(stage: str) -> Iterator[bool]:
    """Whether another experiment has made the outputs of a stage just now; they lie in their places then.

    Otherwise the block is to make them, and others that are to make the same wait until it ends. Only what DVC runs
    in a temporary copy of the checkout, as its queue and `--temp` do, takes part. DVC has no public functions for
    this: where another release of it fails, that is said, and the block makes the outputs.

    Args:
        stage: name of the DVC stage; says that it waits, or what it has taken.
    """
    main = paths.main_checkout()
    if "DVC_STAGE" not in os.environ or main == Path.cwd():
        yield False
        return
    note = _OURS / f"{stage}.made"
    note.unlink(missing_ok=True)
    (main / _OURS).mkdir(parents=True, exist_ok=True)
    with open(main / _OURS / "once.lock", "ab") as lock:
        key, taken = "", False
        try:
            # DVC writes this file when it begins with a stage, right before it looks into the run cache: what is
            # newer, it did not find, and `-f` does not ask for.
            looked = _RWLOCK.stat().st_mtime_ns
            with closing(_Wanted(os.environ["DVC_STAGE"])) as wanted:
                key, taken = wanted.key, _taken(main, lock, stage, wanted, looked)
        except Exception as error:
            print(f"{stage}: not shared: {_dvc()}: {_in_one_line(error)}", flush=True)
        yield taken
        if key and not taken:
            note.write_text(key, encoding="ascii")


def _dvc() -> str:
    try:
        return f"this DVC ({version('dvc')}) is not as expected"
    except PackageNotFoundError:
        return "DVC is not installed beside thaw"


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _taken(main: Path, lock: IO[bytes], stage: str, wanted: "_Wanted", looked: int) -> bool:
    """Wait until nobody else makes the same; whether its outputs lie in their places then, or are to be made here."""
    # One byte for each key, which need not be there: a file of one size, that nobody has to clear up.
    byte = int(wanted.key[:15], 16)
    waits = False
    while True:
        if try_lock(lock, byte):
            saving = _saving(main, stage, wanted)
            if wanted.restore(looked):
                print(f"{stage}: restored from the cache, as another experiment has just made it", flush=True)
                return True
            if not saving:
                return False
        if not waits:
            print(f"{stage}: waiting for another experiment, which runs the same stage", flush=True)
            waits = True
        time.sleep(_PERIOD)


class _Wanted:
    """What a stage is to make, as DVC sees it.

    Attributes:
        key: in the run cache; of command, parameters, dependencies with their hashes, and paths of outputs.
        output: path of one of the outputs, from the root of the checkout.
    """

    def __init__(self, address: str) -> None:
        from dvc.repo import Repo
        from dvc.stage.cache import _get_stage_hash

        self._repo = Repo()
        self._stage = self._repo.stage.get_target(address)
        self._stage.save_deps()
        self.key: str = _get_stage_hash(self._stage)
        self.output: str = self._stage.outs[0].def_path

    def close(self) -> None:
        self._repo.close()

    def restore(self, since: int) -> bool:
        """Put the outputs in their places, if an entry of the run cache is newer, and its files are in the cache.

        Args:
            since: a file's time of change, in nanoseconds.
        """
        from dvc.exceptions import DvcException

        cache = self._repo.stage_cache
        # Not what another DVC writes there just now, and would miss: DVC deletes what it cannot read.
        entries = [path for path in Path(cache.cache_dir, self.key[:2], self.key).glob("*") if _ENTRY(path.name)]
        times = {path.name: path.stat().st_mtime_ns for path in entries}
        newest = max(times, key=times.__getitem__, default="")
        if not newest or times[newest] <= since:
            return False
        # As stage_cache.restore does, which would ask for a lock that the DVC above this process has.
        made = cache._create_stage(cache._load_cache(self.key, newest), wdir=self._stage.wdir)
        # DVC writes the entry first and moves the files then.
        if not made.outs_cached():
            return False
        try:
            for output in made.outs:
                output.checkout(force=True)
        except DvcException:  # damaged, or deleted since
            return False
        return True


def _saving(main: Path, stage: str, wanted: _Wanted) -> bool:
    """Whether another experiment has made the same, and its DVC is about to put it into the cache."""
    try:
        notes = main.glob(f".dvc/tmp/exps/*/{_OURS}/{stage}.made")
        same = [note.parents[3] for note in notes if note.read_text(encoding="ascii") == wanted.key]
    except OSError:  # an experiment has just ended
        return True
    return any(_writes(copy / _RWLOCK, wanted.output) for copy in same)


def _writes(rwlock: Path, output: str) -> bool:
    """Whether a DVC that lives has an output locked, as it has from before a stage until all is saved."""
    try:
        locks: dict[str, Any] = json.loads(rwlock.read_text(encoding="utf-8")).get("write", {})
        process = next((lock["pid"] for path, lock in locks.items() if path.endswith(f"/{output}")), None)
        return process is not None and psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except ValueError:  # it is being written
        return True
    except (OSError, psutil.NoSuchProcess):  # the experiment has ended
        return False
