"""The experiments of a sweep as tasks of Ray: the cluster, what is tried again, and the end. Start at `run_sweep`.

What travels is the commit, texts and numbers; tasks are functions of `work`. Without an address a Ray of its own runs
as long as the sweep, and listens on loopback only.
"""

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

import thaw
from thaw.app.sweep.lines import Lines
from thaw.app.sweep.plan import Planned, Shared, finished, plan, shared_stages
from thaw.app.sweep.work import OURS, Home, Result, bring_home, home_of, run_experiment, run_stages, shares_disk
from thaw.errors import ParamError, ThawError
from thaw.runtime.cluster import refuse_silent, refuse_without_ray
from thaw.runtime.gpus import usable_gpus
from thaw.runtime.progress import format_duration

# Attempts of an experiment whose worker or host dies.
ATTEMPTS = 3
# Experiments at once on a host without a GPU.
JOBS = 2
# Seconds: for a node to tell what it has, for tasks to end, between two looks.
_PROBE, _END, _PERIOD = 60.0, 25.0, 0.3
# Before Ray is imported: no report of its use to its makers; no port but on loopback, as on other systems than Linux;
# and workers that other programs do not displace: by itself Ray starts them with niceness 15.
_PRIVATE = {"RAY_USAGE_STATS_ENABLED": "0"}
_LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}


def run_sweep(overrides: list[str], address: str | None, jobs: int | None, threads: int | None) -> None:
    """Run the experiments of a grid that this repository does not have yet.

    Args:
        overrides: of all experiments, as `dvc exp run --queue -S` takes them.
        address: of a Ray cluster; None for a Ray of its own on this machine.
        jobs: experiments at once on a host; None for the number of its GPUs, or two.
        threads: of each experiment; None for the cores of the smallest host divided by `jobs`.

    Raises:
        ThawError: Ray is not installed, does not answer, or experiments cannot run or have failed.
    """
    os.environ.update(_PRIVATE if address else _PRIVATE | _LOCAL)
    refuse_without_ray("sweep")
    if address:
        refuse_silent("--on", address)
    commit, planned = plan(overrides)
    there = finished([experiment.name for experiment in planned])
    if there:
        print(f"{len(there)} of {len(planned)} experiments are there already: {', '.join(sorted(there))}", flush=True)
    missing = [experiment for experiment in planned if experiment.name not in there]
    if not missing:
        return
    with _token() as token, _ray(address, jobs, threads) as (threads, gpus):
        home = home_of(commit, token, threads, travels=bool(address))
        shared = shared_stages(missing) if address and _hosts_apart(home) else []
        each = f"{threads} thread{'s' if threads > 1 else ''}{' and a GPU' if gpus else ''} each"
        print(f"{len(missing)} experiments, {each}; another number of threads moves the last digits", flush=True)
        failed = _run_all(home, missing, shared, threads, gpus)
    _tell(missing, failed)


@contextmanager
def _token() -> Iterator[str]:
    """A file that only hosts with the disk of this checkout see."""
    OURS.mkdir(parents=True, exist_ok=True)
    path = OURS / f"token-{secrets.token_hex(8)}"
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _ray(address: str | None, jobs: int | None, threads: int | None) -> Iterator[tuple[int, bool]]:
    """Ray as long as the block lasts; the threads of each experiment, and whether each has a GPU."""
    import ray

    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address:
        try:
            ray.init(address, **quiet)
        except (RuntimeError, ConnectionError, ValueError, ray.exceptions.RayError) as error:
            raise ThawError(f"sweep: the Ray at {address}: {' '.join(str(error).split())}") from None
        sizes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        if not sizes:
            raise ParamError("--on", address, "a cluster that has a node with CPUs")
        gpus = any(size.get("GPU") for size in sizes)
        threads = threads or max(1, min(int(size["CPU"]) // (jobs or _jobs(size)) for size in sizes))
    else:
        _find_this_thaw()
        cores = len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else psutil.cpu_count() or 1
        gpus_here = len(usable_gpus())
        jobs = jobs or gpus_here or JOBS
        threads = threads or max(1, cores // jobs)
        gpus = bool(gpus_here)
        ray.init("local", num_cpus=jobs * threads, num_gpus=gpus_here, include_dashboard=False, **quiet)
    try:
        yield threads, gpus
    finally:
        ray.shutdown()


def _jobs(resources: dict[str, float]) -> int:
    return int(resources.get("GPU", 0)) or JOBS


def _find_this_thaw() -> None:
    """Have workers on this machine import the thaw that runs here."""
    root = str(Path(thaw.__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


def _hosts_apart(home: Home) -> list[str]:
    """Hosts that do not share the disk.

    Raises:
        ThawError: a host cannot run thaw, or there is no DVC remote that could take the data of these.
    """
    import ray
    import ray.exceptions as of_ray
    from dvc.repo import Repo
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = ray.remote(num_cpus=0)(shares_disk)
    nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    asked = [
        (name, probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(home))
        for node, name in nodes.items()
    ]
    apart = []
    for name, answer in asked:
        try:
            if not ray.get(answer, timeout=_PROBE):
                apart.append(name)
        except (of_ray.TaskUnschedulableError, of_ray.NodeDiedError, of_ray.WorkerCrashedError):
            continue  # the host has vanished meanwhile: no experiment will get there
        except (of_ray.RayError, ImportError) as error:
            raise ThawError(f"sweep: {name} cannot run thaw: {' '.join(str(error).split())[-300:]}") from None
    if apart:
        with Repo() as repo:
            if not repo.config["core"].get("remote"):
                raise ThawError(
                    f"sweep: {apart[0]} does not share the disk of {home.folder}, and there is no DVC remote for its "
                    "data; `dvc remote add --default NAME ADDRESS`, and commit .dvc/config"
                )
    return apart


class Board:
    """Where tasks write how far they are; an actor."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[str, str]] = {}

    def write(self, name: str, node: str, text: str) -> None:
        self._texts[name] = node, text

    def read(self) -> dict[str, tuple[str, str]]:
        """The node and the last text of each task."""
        return self._texts


def task(work: Callable[..., Any], board: Any, home: Home, name: str, *arguments: Any) -> Any:
    """A function of `work`, as Ray runs it."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    return work(home, name, *arguments, lambda text: board.write.remote(name, node, text))


class _Sweep:
    """Tasks that run, or wait for others, and what has come of them.

    Stages that experiments share come first where hosts do not share a disk: an experiment starts when all of its are
    done, and shared stages when those are that more experiments have. Where one fails, so will its experiments, each
    with a log.
    """

    def __init__(
        self, home: Home, planned: Sequence[Planned], shared: Sequence[Shared], threads: int, gpus: bool
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray: Any = ray
        self._work: dict[str, tuple[Any, ...]] = {
            **{stages.name: (run_stages, stages.overrides, stages.stages) for stages in shared},
            **{experiment.name: (run_experiment, experiment.overrides) for experiment in planned},
        }
        self._waits = {
            **{stages.name: {more.name for more in shared if stages.users < more.users} for stages in shared},
            **{each.name: {stages.name for stages in shared if each.name in stages.users} for each in planned},
        }
        board: Any = ray.remote(num_cpus=0)(Board)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._board = board.options(scheduling_strategy=here).remote()  # other nodes may vanish
        self._task = ray.remote(num_cpus=threads, num_gpus=int(gpus), max_retries=0, max_calls=1)(task)
        self._home = ray.put(home)
        self.running: dict[Any, str] = {}
        self._attempts = dict.fromkeys(self._work, 0)
        self.failed: dict[str, Result] = {}
        # The last texts of attempts whose worker died.
        self._last: dict[str, str] = {}
        self._start_ready()

    @property
    def names(self) -> list[str]:
        """Of all tasks."""
        return list(self._work)

    def _start_ready(self) -> None:
        for name in [name for name, others in self._waits.items() if not others]:
            del self._waits[name]
            self._start(name, None)

    def _start(self, name: str, node: str | None) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._attempts[name] += 1
        # What a killed attempt has saved lies on its node.
        strategy = NodeAffinitySchedulingStrategy(node, soft=True) if node else "DEFAULT"
        task = self._task.options(name=name, scheduling_strategy=strategy)
        work, *arguments = self._work[name]
        self.running[task.remote(work, self._board, self._home, name, *arguments)] = name

    def _read(self) -> dict[str, tuple[str, str]]:
        return self._ray.get(self._board.read.remote())

    def show(self, lines: Lines) -> None:
        """Show how far the tasks are."""
        running = set(self.running.values())
        for name, (_, text) in self._read().items():
            if name in running and text != self._last.get(name):
                lines.set(name, text)

    def end(self, lines: Lines, reference: Any, name: str) -> None:
        """Take the result of an ended task home, or try again where its worker or node has died."""
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # of ours: a clone that cannot be made
            result = Result(None, "no log", _cause(error))
        except self._ray.exceptions.RayError as error:
            node, text = self._read().get(name, (None, ""))
            if self._attempts[name] < ATTEMPTS:
                lines.set(name, f"lost its worker ({type(error).__name__}), tried again")
                self._last[name] = text
                self._start(name, node)
                return
            what = f"{ATTEMPTS} workers died, the last by {type(error).__name__}"
            result = Result(None, "no log", f"{what}, at: {text}")
        if self._work[name][0] is run_stages:
            self._end_stages(lines, name, result)
        else:
            self._end_experiment(lines, name, result)

    def _end_stages(self, lines: Lines, name: str, result: Result) -> None:
        failed = result.bundle is None
        lines.set(name, f"failed: {result.last_line}; log: {result.log}" if failed else "done", ended=True)
        for others in self._waits.values():
            others.discard(name)
        self._start_ready()

    def _end_experiment(self, lines: Lines, name: str, result: Result) -> None:
        if result.bundle is None:
            self._fail(lines, name, result)
            return
        try:
            bring_home(result, name)
        except ThawError as error:
            self._fail(lines, name, replace(result, last_line=str(error)))
            return
        seconds = result.seconds
        times = f"{format_duration(seconds['all'])}, {format_duration(seconds['clone'])} of it for the clone"
        lines.set(name, f"done: {times}", ended=True)

    def _fail(self, lines: Lines, name: str, result: Result) -> None:
        self.failed[name] = result
        lines.set(name, f"failed: {result.last_line}", ended=True)

    def cancel(self) -> None:
        """End all tasks, and wait for the ends of what they have started."""
        for reference in self.running:
            with suppress(Exception):
                self._ray.cancel(reference)
        with suppress(Exception):
            self._ray.wait(list(self.running), num_returns=len(self.running), timeout=_END)


def _cause(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _run_all(
    home: Home, planned: Sequence[Planned], shared: Sequence[Shared], threads: int, gpus: bool
) -> dict[str, Result]:
    """Run experiments; those that failed."""
    import ray

    sweep = _Sweep(home, planned, shared, threads, gpus)
    try:
        with Lines(sweep.names) as lines:
            while sweep.running:
                ended, _ = ray.wait(list(sweep.running), timeout=_PERIOD)
                for reference in ended:
                    sweep.end(lines, reference, sweep.running.pop(reference))
                sweep.show(lines)
                time.sleep(_PERIOD)
    except BaseException as error:
        print("sweep: ends all experiments; started again, it runs those that are missing", file=sys.stderr, flush=True)
        sweep.cancel()
        if isinstance(error, ray.exceptions.RayError | ConnectionError):  # workers that die raise none here
            raise ThawError(f"sweep: the Ray cluster is lost ({type(error).__name__})") from None
        raise
    return sweep.failed


def _tell(planned: Sequence[Planned], failed: dict[str, Result]) -> None:
    print(f"{len(planned) - len(failed)} experiments done; `dvc exp show` and `thaw compare` show them")
    for name, result in failed.items():
        print(f"{name}: {result.last_line}\n    log: {result.log}")
    if failed:
        raise ThawError(f"sweep: {len(failed)} of {len(planned)} experiments failed; started again, it runs these")
