"""What experiments side by side have in common is made once, also where the first of them fails or is killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dvc
import psutil
import pytest

from tests.helpers.project import HEAD_ONLY, ROOT, Project
from thaw.runtime.once import _OURS, made_elsewhere

# Two copies of a checkout, as DVC's queue makes them, each with a dvc of its own; the stage ends when it is told to.
STAGE = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, os.environ["ROOT"])
from thaw.stage import STAGES, Stage, run_stage

def work(params):
    print("works as", os.getpid(), flush=True)
    orders = Path("../../../../orders")
    while not orders.exists():
        time.sleep(0.05)
    if orders.read_text() == "fail":
        orders.unlink()
        raise OSError("fails")
    Path("out").mkdir()
    Path("out/made").write_text(str(os.getpid()))

STAGES["work"] = Stage("__main__", "work", keras=False)
run_stage("work")
"""
PIPELINE = """
stages:
  work:
    cmd: python stage.py
    deps: [stage.py]
    outs: [out, metrics/time/work.json]
"""
WAITS = "work: waiting for another experiment, which runs the same stage"
TAKES = "work: restored from the cache, as another experiment has just made it"
WORKS = "works as"
# What experiments of a sweep over heads have in common.
SHARED = ("download", "preprocess", "backbone", "extract")


class Queue:
    """A checkout with copies for experiments."""

    def __init__(self, main: Path) -> None:
        self.main = main
        self.started: list[subprocess.Popen] = []

    def copy(self, name: str) -> Path:
        folder = self.main / ".dvc/tmp/exps" / name
        (folder / ".dvc/tmp").mkdir(parents=True)
        config = f"[core]\n    no_scm = true\n    analytics = false\n[cache]\n    dir = {self.main}/.dvc/cache\n"
        (folder / ".dvc/config").write_text(config)
        (folder / "dvc.yaml").write_text(PIPELINE)
        (folder / "stage.py").write_text(STAGE)
        shutil.copy(ROOT / "params.yaml", folder)
        return folder

    def repro(self, name: str, *options: str) -> subprocess.Popen:
        folder = self.main / ".dvc/tmp/exps" / name
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ROOT": str(ROOT),
        }
        self.started.append(
            subprocess.Popen(
                ["dvc", "repro", *options],
                cwd=folder if folder.exists() else self.copy(name),
                env=environment,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
        return self.started[-1]

    def order(self, what: str) -> None:
        beside = self.main / "orders.new"
        beside.write_text(what)
        beside.rename(self.main / "orders")

    def result(self, name: str) -> str:
        return (self.main / ".dvc/tmp/exps" / name / "out/made").read_text()


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path)
    yield queue
    for process in queue.started:
        for number in (signal.SIGCONT, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
        process.communicate()


def until(process: subprocess.Popen, text: str) -> str:
    """The first line that has the text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return line.strip()
    raise AssertionError("".join(lines))


def ended(pid: int) -> bool:
    """Whether a process has ended: a zombie below a stopped DVC, or gone where a shell between the two reaps it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def begin(queue: Queue) -> tuple[subprocess.Popen, subprocess.Popen, str]:
    """One that works and one that waits for it, and the process of the stage that works."""
    first = queue.repro("first")
    worker = until(first, WORKS).split()[-1]
    second = queue.repro("second")
    until(second, WAITS)
    return first, second, worker


def test_who_waits_takes_what_the_other_has_made(queue):
    first, second, worker = begin(queue)
    queue.order("go")
    assert WORKS not in until(second, TAKES)
    for process in (first, second):
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert queue.result("second") == queue.result("first") == worker
    times = {(queue.main / f".dvc/tmp/exps/{name}/metrics/time/work.json").read_text() for name in ("first", "second")}
    assert len(times) == 1
    # All that is left in the checkout itself: of one size, however many keys there were.
    assert [(file.name, file.stat().st_size) for file in (queue.main / ".dvc/tmp/thaw").iterdir()] == [("once.lock", 0)]
    forced = queue.repro("second", "--force")
    output, _ = forced.communicate(timeout=120)
    assert WORKS in output
    assert queue.result("second") != worker


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fails", "is killed"])
def test_who_waits_works_where_the_other_ends_without_a_result(queue, how):
    first, second, worker = begin(queue)
    if how == "fails":
        queue.order("fail")
    else:
        os.kill(int(worker), signal.SIGKILL)
    assert until(second, "work").startswith(WORKS)
    queue.order("go")
    second.communicate(timeout=120)
    assert second.returncode == 0
    assert queue.result("second") != worker
    first.communicate(timeout=120)
    assert first.returncode != 0


@pytest.fixture
def stage(queue, monkeypatch):
    """This process as the stage of an experiment that DVC runs in a copy."""
    copy = queue.copy("first")
    (copy / ".dvc/tmp/rwlock").write_text("{}")
    (copy / _OURS).mkdir()  # as the stage's own lock does
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_STAGE", "work")
    return copy


def entry_of_another_experiment(copy: Path) -> Path:
    """In the run cache, newer than DVC's look into it."""
    with made_elsewhere("work") as made:
        assert not made
    key = (copy / _OURS / "work.made").read_text()
    entry = copy.parents[2] / "cache/runs" / key[:2] / key / (64 * "0")
    entry.parent.mkdir(parents=True)
    entry.write_text("cmd: python stage.py\n")
    return entry


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda patch: patch.delattr("dvc.stage.cache._get_stage_hash"), "ImportError: cannot import name"),
        (lambda patch: patch.setattr("dvc.stage.cache._get_stage_hash", lambda: ""), "TypeError: "),
        (lambda patch: patch.delattr("dvc.stage.Stage.save_deps"), "AttributeError: 'PipelineStage'"),
        (lambda patch: patch.delattr("dvc.stage.cache.StageCache._create_stage"), "AttributeError: 'StageCache'"),
        (lambda patch: patch.setattr("dvc.stage.cache.StageCache._load_cache", lambda cache: {}), "TypeError: "),
        (lambda patch: Path(".dvc/tmp/rwlock").unlink(), "FileNotFoundError: "),
    ],
    ids=["no hash", "another hash", "no dependencies", "no stage", "another entry", "no rwlock"],
)  # fmt: skip
def test_where_dvc_has_changed_nothing_is_shared_and_that_is_said(stage, monkeypatch, capsys, change, told):
    entry_of_another_experiment(stage)
    assert capsys.readouterr().out == ""
    change(monkeypatch)
    with made_elsewhere("work") as made:
        assert not made
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"work: not shared: this DVC ({dvc.__version__}) is not as expected: {told}")


def test_what_another_dvc_is_writing_is_neither_read_nor_deleted(stage, capsys):
    """DVC writes an entry beside its place, and deletes one that it cannot read: the other would find its own gone."""
    beside = entry_of_another_experiment(stage)
    beside = beside.rename(beside.with_name(".0123456789abcdefghijkl.tmp"))
    with made_elsewhere("work") as made:
        assert not made
    assert beside.exists()
    assert capsys.readouterr().out == ""


def test_an_error_of_the_stage_itself_is_not_taken_for_one_of_dvc(stage, capsys):
    with pytest.raises(AttributeError, match="ours"), made_elsewhere("work"):
        raise AttributeError("ours")
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["saves it late", "is killed"])
def test_what_is_made_but_not_saved_is_waited_for_as_long_as_its_dvc_lives(queue, how):
    first = queue.repro("first")
    worker = until(first, WORKS).split()[-1]
    first.send_signal(signal.SIGSTOP)  # a DVC that takes its time
    queue.order("go")
    note = queue.main / ".dvc/tmp/exps/first" / _OURS / "work.made"
    deadline = time.monotonic() + 120
    while not (note.exists() and ended(int(worker))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = queue.repro("second")
    until(second, WAITS)
    first.send_signal(signal.SIGCONT if how == "saves it late" else signal.SIGKILL)
    if how == "saves it late":
        until(second, TAKES)
    else:
        until(second, WORKS)
    second.communicate(timeout=120)
    assert second.returncode == 0
    assert (queue.result("second") == worker) == (how == "saves it late")


@pytest.mark.slow
def test_a_stage_of_other_parameters_does_not_wait(queue):
    first = queue.repro("first")
    until(first, WORKS)
    other = queue.copy("other")
    (other / "stage.py").write_text(STAGE + "# another\n")
    until(queue.repro("other"), WORKS)


@pytest.mark.slow
def test_who_waits_can_be_ended(queue):
    _, second, _ = begin(queue)
    psutil.Process(second.pid).children(recursive=True)[-1].send_signal(signal.SIGTERM)
    until(second, "work: ended by SIGTERM; the next run resumes from saved state")


@pytest.mark.slow
def test_a_sweep_in_the_queue_makes_what_is_shared_once(tmp_path):
    project = Project(tmp_path)
    settings = [*HEAD_ONLY, "dataset.limit=200", "head.units=8,16"]
    project.dvc("exp", "run", "--queue", *(part for setting in settings for part in ("-S", setting)))
    project.dvc("queue", "start", "--jobs", "2")
    deadline = time.monotonic() + 900
    while re.search(r"Queued|Running", status := project.dvc("queue", "status")):
        assert time.monotonic() < deadline, status
        time.sleep(1)
    tasks = re.findall(r"^([0-9a-f]{7}) .*Success", status, re.MULTILINE)
    assert len(tasks) == 2, status
    logs = [project.dvc("queue", "logs", task) for task in tasks]
    for stage in SHARED:
        taken = [f"{stage}: restored from the cache" in log or f"Stage '{stage}' is cached" in log for log in logs]
        assert sorted(taken) == [False, True], stage
    assert sum(log.count("backbone: epoch 1/1") for log in logs) == 1
    assert sum(log.count("extract: val, ") for log in logs) == 1
    shown = json.loads(project.dvc("exp", "show", "--json"))
    found = [one["revs"][0]["data"] for commit in shown for one in commit["experiments"] or ()]
    assert sorted(data["params"]["params.yaml"]["data"]["head"]["units"] for data in found) == [8, 16]
    assert all("accuracy" in data["metrics"]["metrics/evaluate.json"]["data"] for data in found)
    # The seconds of what was taken are those of who made it. (Those of the heads may be equal by chance: 0.01 s apart.)
    for stage in SHARED:
        assert len({data["outs"][f"metrics/time/{stage}.json"]["hash"] for data in found}) == 1, stage
    assert len({data["outs"]["models/head"]["hash"] for data in found}) == 2
