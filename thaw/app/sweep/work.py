"""One experiment on its host: a clone of its own, `dvc exp run` in it, and what goes home. Start at `run_experiment`.

Arguments and results are texts, numbers and bytes of git. Clones lie where those of DVC's queue do, so that stages that
experiments share run once on a host (thaw/runtime/once.py). Hosts that share no disk take them from the DVC remote,
where `run_stages` has put them before.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaw.app.git import git
from thaw.errors import ThawError
from thaw.runtime.locks import locked
from thaw.runtime.threads import THREADS

# Where the clones of DVC's queue lie; what else is the sweep's, such as logs.
CLONES = Path(".dvc/tmp/exps")
OURS = Path(".dvc/tmp/thaw/sweep")
# Names the folder for clones and cache of a host that shall use a disk of its own.
FOLDER = "THAW_SWEEP_FOLDER"
# Seconds between two looks at the log.
_PERIOD = 0.3
# Bytes at the end of a log that are looked at.
_TAIL = 8192
# What DVC writes below an error of its own.
_INVITATION = "Having any troubles?"
_STAGE = re.compile(rb"^(?:Running stage|Stage) '(.+?)'", re.MULTILINE)


@dataclass(frozen=True)
class Home:
    """The checkout that the sweep was started in, as a host sees it.

    Attributes:
        folder: its path.
        token: of the sweep; a file of that name lies in OURS, where the host shares the disk.
        commit: that the experiments stand on.
        bundle: that commit for git, for hosts that do not share the disk.
        cache: DVC's cache.
        config: DVC's local configuration, by section.
        author: name and e-mail of the experiments' commits.
        threads: of each experiment, whose number moves bits.
    """

    folder: str
    token: str
    commit: str
    bundle: bytes
    cache: str
    config: dict[str, Any]
    author: tuple[str, str]
    threads: int


@dataclass(frozen=True)
class Result:
    """What came of an experiment.

    Attributes:
        bundle: its commit for git, where it has succeeded.
        log: host and path of what DVC and the stages have written.
        last_line: of the log.
        seconds: of the whole, and of the clone before `dvc exp run`.
        shared: whether its data lies in the cache at home.
    """

    bundle: bytes | None
    log: str
    last_line: str
    seconds: dict[str, float] = field(default_factory=dict)
    shared: bool = True


def shares_disk(home: Home) -> bool:
    """Whether this host reaches the checkout, and is not to use a disk of its own."""
    return FOLDER not in os.environ and (Path(home.folder) / OURS / home.token).is_file()


def run_experiment(home: Home, name: str, overrides: tuple[str, ...], say: Callable[[str], None]) -> Result:
    """Run an experiment in a clone, or go on with what a killed attempt has left of it.

    Args:
        home: the checkout.
        name: of the experiment.
        overrides: as `-S` takes them.
        say: gets each new last line.
    """
    started = time.perf_counter()
    with _clone(home, name, say) as clone:
        cloned = time.perf_counter()
        code = 0
        if not _reference(clone.folder, name):
            sets = [part for override in overrides for part in ("-S", override)]
            pull = [] if clone.shared else ["--pull"]
            code = clone.run("dvc", "exp", "run", *pull, "--name", name, *sets)
        if not code and not clone.shared:
            say("pushes")
            code = clone.run("dvc", "push")
        if code:
            return Result(None, clone.where, last_line(clone.log) or f"exit code {code}")
        bundle = _bundle(clone.folder, "^" + home.commit, _reference(clone.folder, name))
        shutil.rmtree(clone.folder, ignore_errors=True)
    seconds = {"clone": cloned - started, "all": time.perf_counter() - started}
    return Result(bundle, clone.where, last_line(clone.log), seconds, clone.shared)


def run_stages(
    home: Home, name: str, overrides: tuple[str, ...], stages: tuple[str, ...], say: Callable[[str], None]
) -> Result:
    """Run stages that experiments share, unless the remote has what they make, and push that.

    Args:
        home: the checkout.
        name: of the clone.
        overrides: of one of the experiments, as `-S` takes them.
        stages: in the order in which they run.
        say: gets each new last line.

    Returns:
        A result without a commit: its bundle is empty.
    """
    with _clone(home, name, say) as clone:
        code = (
            clone.run("thaw", "params", *overrides)
            or clone.run("dvc", "repro", "--pull", *stages)
            or clone.run("thaw.app.sweep.share", *stages)
        )
        if code:
            return Result(None, clone.where, last_line(clone.log) or f"exit code {code}")
        shutil.rmtree(clone.folder, ignore_errors=True)
    return Result(b"", clone.where, last_line(clone.log), shared=clone.shared)


@dataclass(frozen=True)
class _Clone:
    """A clone on this host, and how commands run in it.

    Attributes:
        folder: its path.
        shared: whether it lies on the disk of the checkout at home.
        log: what the commands have written.
    """

    folder: Path
    shared: bool
    log: Path
    lock: Path
    threads: int
    say: Callable[[str], None]

    @property
    def where(self) -> str:
        """Host and path of the log."""
        return f"{socket.gethostname()}:{self.log}"

    def run(self, module: str, *arguments: str) -> int:
        """Run a module, and tell the last line of its log; its exit code."""
        leash = [sys.executable, "-m", "thaw.app.sweep.leash", str(self.lock), str(self.log), str(self.folder)]
        process = subprocess.Popen(
            [*leash, sys.executable, "-m", module, *arguments],
            env=environment(self.threads), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        told = ""
        try:
            while process.poll() is None:
                if (line := progress(self.log)) != told:
                    self.say(line)
                    told = line
                time.sleep(_PERIOD)
            return process.returncode
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


@contextmanager
def _clone(home: Home, name: str, say: Callable[[str], None]) -> Iterator[_Clone]:
    """A clone of this name, which nobody else uses as long as the block lasts."""
    shared = shares_disk(home)
    say("clones")
    base = Path(home.folder) if shared else _own_base(home)
    (base / OURS).mkdir(parents=True, exist_ok=True)
    folder, log, lock = base / CLONES / name, base / OURS / f"{name}.log", base / OURS / f"{name}.lock"
    with locked(lock.with_suffix(".clone"), "sweep"):
        with locked(lock, "sweep"):  # an earlier attempt is over
            _prepare(home, base, folder, shared)
        yield _Clone(folder, shared, log, lock, home.threads, say)


def _own_base(home: Home) -> Path:
    """A clone for all experiments of the checkout on a host that does not share its disk; with a cache of its own."""
    root = Path(os.environ.get(FOLDER) or Path.home() / ".cache/thaw/sweep")
    base = root / f"{Path(home.folder).name}-{home.commit[:12]}"
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f"{base.name}.lock", "sweep"):
        if not (base / ".git").is_dir():
            with tempfile.TemporaryDirectory(dir=root) as temporary:
                bundle = Path(temporary) / "bundle"
                bundle.write_bytes(home.bundle)
                folder = Path(temporary) / "base"
                git("sweep", "init", "--quiet", str(folder))
                git("sweep", "fetch", "--quiet", "--update-shallow", str(bundle), "HEAD", folder=folder)
                git("sweep", "checkout", "--quiet", "--detach", home.commit, folder=folder)
                folder.rename(base)
    return base


def _prepare(home: Home, base: Path, clone: Path, shared: bool) -> None:
    """A clean checkout of the commit; what a killed attempt has left stays, as stages resume from it."""
    if not (clone / ".git").is_dir():
        shutil.rmtree(clone, ignore_errors=True)
        clone.parent.mkdir(parents=True, exist_ok=True)
        beside = clone.with_name(f"{clone.name}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        git("sweep", "clone", "--quiet", "--no-checkout", str(base), str(beside), folder=base)
        beside.rename(clone)
    # Those of a killed attempt: git's, and for each object that it writes DVC's, with which no other one starts.
    for left in list((clone / ".git").rglob("*.lock")):
        left.unlink()
    for reference in git("sweep", "for-each-ref", "--format=%(refname)", "refs/exps/exec", folder=clone).splitlines():
        git("sweep", "update-ref", "-d", reference, folder=clone)  # of a killed attempt
    git("sweep", "checkout", "--quiet", "--force", "--detach", home.commit, folder=clone)
    for key, value in zip(("user.name", "user.email"), home.author, strict=True):
        git("sweep", "config", key, value, folder=clone)
    downloads = base / "downloads"
    downloads.mkdir(exist_ok=True)
    if not (clone / "downloads").exists():
        (clone / "downloads").symlink_to(downloads)
    _configure(clone / ".dvc", home.config, home.cache if shared else str(base / ".dvc/cache"))


def _configure(folder: Path, config: dict[str, Any], cache: str) -> None:
    from dvc.config import Config

    with Config(str(folder)).edit("local") as local:
        local.update(config)
        local.setdefault("cache", {})["dir"] = cache


def _reference(clone: Path, name: str) -> str:
    """The reference of a finished experiment; empty where there is none."""
    names = git("sweep", "for-each-ref", "--format=%(refname)", "refs/exps", folder=clone).splitlines()
    return next((reference for reference in names if reference.endswith(f"/{name}")), "")


def environment(threads: int) -> dict[str, str]:
    """This process's, with the number of threads of TensorFlow, JAX and NumPy, and `python` as the stages call it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | dict.fromkeys(THREADS, str(threads)) | {"PATH": path}


def progress(log: Path) -> str:
    """The stage that runs, or ran last, and the last line of a log."""
    text = _tail(log)
    stages = _STAGE.findall(text)
    stage = stages[-1].decode(errors="replace") if stages else "dvc"
    return f"{stage}: {_last(text).removeprefix(f'{stage}: ')}"


def last_line(log: Path) -> str:
    """The last line of a log that has letters, and is not DVC's invitation to ask for help."""
    return _last(_tail(log))


def _tail(log: Path) -> bytes:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            return file.read()
    except FileNotFoundError:
        return b""


def _last(text: bytes) -> str:
    lines = [line.strip() for line in re.split(r"[\r\n]+", text.decode(errors="replace"))]
    told = (line for line in reversed(lines) if re.search(r"\w", line) and not line.startswith(_INVITATION))
    return next(told, "")


def _bundle(folder: Path, *revisions: str) -> bytes:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "bundle"
        git("sweep", "bundle", "create", "--quiet", str(path), *revisions, folder=folder)
        return path.read_bytes()


def home_of(commit: str, token: str, threads: int, *, travels: bool) -> Home:
    """The checkout in the working folder.

    Args:
        commit: that is checked out.
        token: of the sweep.
        threads: of each experiment.
        travels: whether a host may not share its disk.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        cache, config = repo.cache.local_cache_dir, repo.config.read("local")
    author = tuple(git("sweep", "config", "--default", other, key) for key, other in _AUTHOR.items())
    bundle = _bundle(Path(), "HEAD") if travels else b""
    return Home(str(Path.cwd()), token, commit, bundle, cache, config, author, threads)  # type: ignore[arg-type]


_AUTHOR = {"user.name": "thaw", "user.email": "thaw@localhost"}


def bring_home(result: Result, name: str) -> None:
    """Put a finished experiment into the repository in the working folder; data of a remote as far as shown."""
    assert result.bundle is not None
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "bundle"
        path.write_bytes(result.bundle)
        references = git("sweep", "bundle", "list-heads", str(path)).splitlines()
        if not references:
            raise ThawError(f"sweep: {name} came back without a commit")
        for reference in (line.split()[1] for line in references):
            git("sweep", "fetch", "--quiet", "--no-write-fetch-head", str(path), f"{reference}:{reference}")
    if not result.shared:
        _fetch_shown(git("sweep", "rev-parse", reference))


def _fetch_shown(commit: str) -> None:
    """Fetch what `thaw compare` reads; weights stay on the remote until `dvc exp apply` and `dvc pull`."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            with repo.switch(commit):
                names = [out.def_path for out in repo.index.outs if out.def_path.startswith(("metrics/", "plots/"))]
            repo.fetch(targets=names, revs=[commit])
    except DvcException as error:
        raise ThawError(
            f"sweep: {' '.join(str(error).split())}; `dvc exp apply` and `dvc pull` fetch its data"
        ) from None
