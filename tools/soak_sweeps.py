"""Kills workers, hosts and heads of a cluster that runs a sweep, and compares what the sweep ends in. Start at `soak`.

    make soak-sweeps KILLS=50 SEED=0

The cluster is of two nodes of Ray on this machine, which share nothing but a DVC remote. After a random time one of
three is killed (SIGKILL): the worker of an experiment, all processes of the second node, which comes back, or those of
the head, with which the cluster ends; then another cluster and the sweep are started again, as a user would. When the
sweep ends well, all experiments are compared with those that ran one by one, and another one begins, in a new
checkout with an empty cache and an empty remote. What a user would have to do beside starting again counts as a repair.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.helpers import sweeps
from tests.helpers.project import Project

# Seconds before a kill, at most; within which a sweep ends whose head has died; and within which one ends at all.
LONGEST, LOSS, END = 20.0, 180.0, 900.0


@dataclass
class Count:
    """Counts of a soak test.

    Attributes:
        kills: by what was killed.
        sweeps: those that ended well.
        starts: of the command.
        wrong: mismatches and repairs.
    """

    kills: Counter[str] = field(default_factory=Counter)
    sweeps: int = 0
    starts: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kills = ", ".join(f"{count} of a {what}" for what, count in self.kills.items())
        return (
            f"{self.kills.total()} kills ({kills}) in {self.sweeps} sweeps, started {self.starts} times, "
            f"{len(self.wrong)} mismatches and repairs"
        )


class Cluster:
    """A sweep of a checkout on two nodes, with the folders of a disk each."""

    def __init__(self, folder: Path, origin: Path) -> None:
        folder.mkdir()
        self.folder, self.log = folder, folder / "sweep.log"
        (folder / "home").mkdir()
        self.project = Project(folder / "home", origin)
        self.project.dvc("remote", "add", "--default", "both", str(folder / "remote"))
        self.project.commit("a remote")

    def run(self, kills: int, chance: random.Random, count: Count) -> None:
        """Run the sweep until it ends well, with so many kills at most."""
        first, second = self.folder / "first", self.folder / "second"
        while not count.wrong:
            with sweeps.Hosts(first, second) as hosts:
                sweep = sweeps.start_sweep(self.project, sweeps.GRID, self.log, "--on", hosts.address)
                count.starts += 1
                try:
                    head, killed = False, count.kills.total()
                    while not head and kills and _runs(sweep, chance.uniform(2, LONGEST)):
                        what = chance.choices(("worker", "host", "head"), (2, 2, 1))[0]
                        head = what == "head"
                        if self._kill(what, hosts, first, second, chance):
                            count.kills[what] += 1
                            kills -= 1
                    if _runs(sweep, LOSS if head else END):
                        count.wrong.append(f"the sweep does not end: {self.log.read_text()[-2000:]}")
                finally:
                    with suppress(ProcessLookupError):
                        os.killpg(sweep.pid, signal.SIGKILL)
                    sweep.wait()
            if "Traceback" in self.log.read_text():
                count.wrong.append(f"an error that is not told in a line: {self.log.read_text()[-2000:]}")
            if not head and sweep.returncode == 0:
                count.sweeps += 1
                return
            if not head and (
                killed == count.kills.total() or "started again, it runs these" not in self.log.read_text()[-2000:]
            ):
                count.wrong.append(f"the sweep failed: {self.log.read_text()[-2000:]}")

    def _kill(self, what: str, hosts: sweeps.Hosts, first: Path, second: Path, chance: random.Random) -> bool:
        """Kill one of them; whether there was one."""
        if what == "worker":
            below = _all_below(self.folder)
            worker = sweeps.worker_above(chance.sample(below, len(below)), "leash")
            with suppress(psutil.Error):
                if worker:
                    worker.kill()
                    return True
            return False
        hosts.lose(second if what == "host" else first)
        if what == "host":
            hosts.add(second)
        return True


def _all_below(folder: Path) -> list[psutil.Process]:
    """The processes that run commands on clones below a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(str(folder) in word for word in process.cmdline()) and "thaw.app.sweep.leash" in process.cmdline():
                found.append(process)
    return found


def _runs(process: subprocess.Popen, seconds: float) -> bool:
    """Whether a process still runs after so many seconds."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    return process.poll() is None


def soak(folder: Path, kills: int, seed: int, per_sweep: int) -> Count:
    """Kill so many times in all.

    Args:
        folder: for the checkouts.
        per_sweep: kills of one sweep, at most.
    """
    origin = sweeps.short_pipeline(folder / "origin").folder
    (folder / "alone").mkdir()
    alone = Project(folder / "alone", origin)
    sweeps.run_one_by_one(alone, sweeps.OF_GRID)
    expected = sweeps.computed(sweeps.made_by(alone))
    count, chance = Count(), random.Random(seed)
    while count.kills.total() < kills and not count.wrong:
        cluster = Cluster(folder / f"sweep{count.sweeps}", origin)
        cluster.run(min(per_sweep, kills - count.kills.total()), chance, count)
        if not count.wrong and sweeps.computed(sweeps.made_by(cluster.project)) != expected:
            count.wrong.append(f"{cluster.folder.name} differs from its experiments run one by one")
        print(count, flush=True)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description="kill workers, hosts and heads of a cluster that runs a sweep")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-sweep", type=int, default=8)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        count = soak(Path(folder), arguments.kills, arguments.seed, arguments.per_sweep)
    print(f"{count}, {(time.perf_counter() - started) / 60:.1f} minutes")
    sys.exit("\n".join(count.wrong) or 0)


if __name__ == "__main__":
    main()
