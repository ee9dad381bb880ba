"""thaw sweep: the names of a grid, what is refused, and a sweep that loses a worker and is interrupted."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.helpers.project import ROOT, Project
from thaw.app.sweep import cluster, work
from thaw.app.sweep.lines import Lines
from thaw.app.sweep.plan import finished, plan
from thaw.errors import ParamError, ThawError

GRID = ["dataset=digits", "backbone=cnn", "schedule=head-only", "head.units=8,16", "seed=0,1"]


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A git repository with conf/ and params.yaml; the working folder."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "code.py").write_text("one\n")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "start"]):
        _git(folder, *command)
    monkeypatch.chdir(folder)
    return folder


def _git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True)


def test_a_grid_is_that_of_dvc_and_its_names_say_what_differs(checkout):
    _, planned = plan(GRID)
    assert [experiment.overrides[3:] for experiment in planned] == [
        ("head.units=8", "seed=0"), ("head.units=8", "seed=1"), ("head.units=16", "seed=0"), ("head.units=16", "seed=1")
    ]  # fmt: skip
    assert [experiment.name.rpartition("-")[0] for experiment in planned] == [
        "units8-seed0", "units8-seed1", "units16-seed0", "units16-seed1"
    ]  # fmt: skip
    (choice, *_) = plan([*GRID[:3], "head.units=choice(8,16)", "seed=range(0,2)"])[1]
    assert choice == planned[0]


def test_a_name_is_of_one_experiment_on_one_commit(checkout):
    names = [experiment.name for experiment in plan(GRID)[1]]
    assert names == [experiment.name for experiment in plan(GRID)[1]]
    assert not {*names} & {experiment.name for experiment in plan([*GRID, "head.epochs=3"])[1]}
    assert finished(names) == set()
    _git(checkout, "update-ref", f"refs/exps/ab/cdef/{names[2]}", "HEAD")
    assert finished(names) == {names[2]}
    _git(checkout, "commit", "--quiet", "--allow-empty", "-m", "later")
    assert not {*names} & {experiment.name for experiment in plan(GRID)[1]}


def test_a_path_of_the_checkout_is_given_in_full(checkout, tmp_path):
    weights = tmp_path / "checkout/weights.h5"
    weights.write_bytes(b"weights")
    (experiment,) = _planned_without_a_look_at_the_file(["dataset=digits", "backbone.weights=weights.h5"])
    assert experiment.overrides == ("dataset=digits", f"backbone.weights={weights}")


def _planned_without_a_look_at_the_file(overrides):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thaw.app.sweep.plan.check_runnable", lambda *_, **__: None)
        return plan(overrides)[1]


def test_uncommitted_changes_are_refused_but_for_what_a_run_writes(checkout):
    (checkout / "params.yaml").write_text("seed: 3\n")
    assert len(plan(GRID)[1]) == 4
    (checkout / "code.py").write_text("two\n")
    with pytest.raises(ThawError, match=r"not committed: code\.py; commit them"):
        plan(GRID)


def test_a_grid_with_one_run_that_cannot_run_is_refused(checkout):
    with pytest.raises(ThawError, match=r"head\.units: received 0.*in the run of .*head\.units=0"):
        plan([*GRID[:3], "head.units=8,0"])


@pytest.mark.parametrize("address", ["nowhere", "host:port", "127.0.0.1:99999", "127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_that_does_not_answer_is_refused_at_once(address, checkout):
    started = time.monotonic()
    with pytest.raises(ParamError, match=f"--on: received '{address}'; accepted: HOST:PORT of a Ray cluster"):
        cluster.run_sweep(GRID, address, None, None)
    assert time.monotonic() - started < 10


def test_without_ray_nothing_else_is_done(checkout, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ThawError, match=r'Ray is not installed; pip install -e "\.\[ray\]"'):
        cluster.run_sweep(["no such"], None, None, None)


def test_a_command_ends_with_the_process_that_started_it_children_included(tmp_path):
    program = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    leash = subprocess.Popen(
        [sys.executable, "-m", "thaw.app.sweep.leash", str(tmp_path / "lock"), str(tmp_path / "log"), str(tmp_path)]
        + [sys.executable, "-c", f"{program}; print('begun', flush=True); time.sleep(60)"],
        cwd=ROOT, stdin=subprocess.PIPE,
    )  # fmt: skip
    _wait(lambda: work.last_line(tmp_path / "log") == "begun")
    children = psutil.Process(leash.pid).children(recursive=True)
    assert len(children) == 2
    leash.stdin.close()
    assert leash.wait(timeout=20) == 128 + signal.SIGTERM
    assert not psutil.wait_procs(children, timeout=5)[1]


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_of_a_command_comes_through(tmp_path, code):
    files = [str(tmp_path / "lock"), str(tmp_path / "log"), str(tmp_path)]
    leash = [sys.executable, "-m", "thaw.app.sweep.leash", *files, sys.executable, "-c", f"raise SystemExit({code})"]
    # Its standard input stays open, as a worker's does.
    with subprocess.Popen(leash, cwd=ROOT, stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=20) == code


def test_a_log_has_a_line_where_an_experiment_gets_to_a_stage_and_where_it_ends(capsys):
    with Lines(["a", "b"]) as lines:
        for text in ("extract: 1 of 3", "extract: 2 of 3", "train_head: 1 of 3"):
            lines.set("a", text)
        lines.set("b", "failed: out of \x1b[2Jmemory", ended=True)
    assert capsys.readouterr().out.splitlines() == [
        "a: extract", "a: train_head", "b: failed: out of \\x1b[2Jmemory"
    ]  # fmt: skip


def test_progress_is_the_stage_and_the_last_line_with_letters(tmp_path):
    log = tmp_path / "log"
    assert work.progress(log) == "dvc: "
    log.write_bytes(
        b"Stage 'extract' is cached - skipping run\nRunning stage 'train_head':\ntrain_head: epoch 1\r 2\n--\n"
    )
    assert work.progress(log) == "train_head: 2"


# Stages of the pipeline that make a head; those that a test of a sweep can do without cost as much again.
STAGES = ("download", "preprocess", "backbone", "extract", "train_head")
TINY = [*GRID, "dataset.limit=100", "batch_size=16", "min_steps=0", "head.epochs=2", "augment.views=1"]
VARIED = [(units, seed) for units in (8, 16) for seed in (0, 1)]


def _wait(condition, seconds: float = 600):
    """Wait until a condition holds, and return what it gives."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


class Swept:
    """A sweep of 2 x 2 that lost a worker, was ended by Ctrl-C after its first experiment, and started again."""

    def __init__(self, folder: Path) -> None:
        self.project = Project(folder)
        file = folder / "dvc.yaml"
        stages = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]
        file.write_text(yaml.safe_dump({"stages": {name: stages[name] for name in STAGES}}), encoding="utf-8")
        self.project.commit("a short pipeline")
        self.listening: set[str] = set()
        self.first = self._interrupted()
        self.second = self.project.run(*self.command())

    def command(self) -> list[str]:
        sets = [part for override in TINY for part in ("-S", override)]
        return ["python", "-m", "thaw", "sweep", "--jobs", "2", "--threads", "1", *sets]

    def _interrupted(self) -> str:
        environment = work.environment(1)
        environment.pop("KERAS_BACKEND", None)
        with open(self.project.folder.parent / "first.log", "w+b") as output:
            sweep = subprocess.Popen(
                [sys.executable, *self.command()[1:]], cwd=self.project.folder, env=environment,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
            tree = psutil.Process(sweep.pid)
            try:
                self._disturb(sweep, tree, Path(output.name))
            finally:
                sweep.kill()  # what it has started ends with it
            return Path(output.name).read_text()

    def _disturb(self, sweep: subprocess.Popen, tree: psutil.Process, output: Path) -> None:
        worker = _wait(lambda: self._worker_of(tree, "stages.train_head"))
        self.listening = {
            connection.laddr.ip
            for process in [tree, *tree.children(recursive=True)]
            for connection in _connections(process)
            if connection.status == psutil.CONN_LISTEN
        }
        worker.kill()
        _wait(lambda: b": done: " in output.read_bytes())
        _wait(lambda: self._worker_of(tree, "leash"))
        children = tree.children(recursive=True)
        sweep.send_signal(signal.SIGINT)
        self.code = sweep.wait(timeout=60)
        self.left = psutil.wait_procs(children, timeout=5)[1]

    @staticmethod
    def _worker_of(tree: psutil.Process, words: str) -> psutil.Process | None:
        """The worker of Ray above a process with these words in its command."""
        try:
            for process in tree.children(recursive=True):
                if words in " ".join(process.cmdline()):
                    leash = next(up for up in [process, *process.parents()] if "thaw.app.sweep.leash" in up.cmdline())
                    return leash.parent()
        except (psutil.Error, StopIteration):
            pass
        return None

    def locks(self, project: Project) -> list[dict[str, str]]:
        """For each experiment, by its parameters, the hashes of all outputs by path."""
        found = {}
        for reference in project.git("for-each-ref", "--format=%(refname)", "refs/exps/*/*/*").split():
            if "/exec/" not in reference:
                params = yaml.safe_load(project.git("show", f"{reference}:params.yaml"))
                lock = yaml.safe_load(project.git("show", f"{reference}:dvc.lock"))
                outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
                found[params["head"]["units"], params["seed"]] = {out["path"]: out["md5"] for out in outs}
        assert sorted(found) == sorted(VARIED)
        return [found[key] for key in VARIED]


def _connections(process: psutil.Process) -> list:
    try:
        return process.net_connections("inet")
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Swept:
    return Swept(tmp_path_factory.mktemp("sweep") / "project")


@pytest.mark.slow
def test_a_sweep_that_was_cut_off_twice_equals_its_experiments_run_one_by_one(swept, tmp_path):
    alone = Project(_made(tmp_path / "alone"), swept.project.folder)
    threads = dict.fromkeys(work.THREADS, "1")
    for units, seed in VARIED:
        sets = [*GRID[:3], *TINY[len(GRID) :], f"head.units={units}", f"seed={seed}"]
        options = [part for override in sets for part in ("-S", override)]
        alone.run("dvc", "exp", "run", "--temp", *options, **threads)
    assert [_computed(lock) for lock in swept.locks(swept.project)] == [_computed(lock) for lock in swept.locks(alone)]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _computed(lock: dict[str, str]) -> dict[str, str]:
    return {path: md5 for path, md5 in lock.items() if not path.startswith("metrics/time/")}


@pytest.mark.slow
def test_a_stage_that_experiments_share_runs_once(swept):
    times = [{path: md5 for path, md5 in lock.items() if "metrics/time" in path} for lock in swept.locks(swept.project)]
    for stage in STAGES[:2]:  # of all
        assert len({time[f"metrics/time/{stage}.json"] for time in times}) == 1
    for first, second in ((0, 2), (1, 3)):  # of one seed
        assert times[first]["metrics/time/backbone.json"] == times[second]["metrics/time/backbone.json"]
        assert times[first]["metrics/time/extract.json"] == times[second]["metrics/time/extract.json"]
    logs = [log.read_text() for log in (swept.project.folder / work.OURS).glob("*.log")]
    ran = [re.findall(r"Running stage '(\w+)'", log) for log in logs]
    taken = [re.findall(r"^(\w+): restored from the cache, as another", log, re.MULTILINE) for log in logs]
    count = {name: sum(log.count(name) for log in ran) - sum(log.count(name) for log in taken) for name in STAGES}
    assert (count["download"], count["preprocess"]) == (1, 1)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_ctrl_c_ends_all(swept):
    assert "lost its worker (" in swept.first
    assert swept.code == 130 and swept.left == []
    assert "started again, it runs those that are missing" in swept.first
    (there,) = re.findall(r"(\d) of 4 experiments are there already", swept.second)
    assert 1 <= int(there) < 4
    assert f"{4 - int(there)} experiments done" in swept.second
    assert not list((swept.project.folder / work.CLONES).iterdir())


@pytest.mark.slow
def test_nothing_listens_but_on_loopback(swept):
    assert {address.removeprefix("::ffff:") for address in swept.listening} == {"127.0.0.1"}


@pytest.mark.slow
def test_the_checkout_stays_as_it_was(swept):
    assert swept.project.git("status", "--porcelain") == ""
