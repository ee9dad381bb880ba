"""thaw sweep: the names of a grid, what is refused, and a sweep that loses a worker and is interrupted."""

import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.helpers.project import ROOT, Project
from tests.helpers.sweeps import (
    CUBE,
    EXPERIMENTS,
    GRID,
    OF_GRID,
    STAGES,
    Hosts,
    computed,
    made_by,
    run_one_by_one,
    short_pipeline,
    start_sweep,
    times,
    worker_above,
)  # fmt: skip
from thaw.app.sweep import cluster, work
from thaw.app.sweep.lines import Lines
from thaw.app.sweep.plan import finished, plan, shared_stages
from thaw.errors import ParamError, ThawError
from thaw.runtime.installed import install_command


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


def test_stages_that_experiments_share_are_found_by_what_they_follow_from(checkout):
    shutil.copy(ROOT / "dvc.yaml", checkout)
    _git(checkout, "add", ".")
    _git(checkout, "commit", "--quiet", "-m", "pipeline")
    grid = ["dataset=digits", "backbone=cnn,mobilenetv2", "backbone.weights=none", "schedule=head-only", "seed=0,1"]
    planned = plan([*grid, "head.units=8,16"])[1]
    names = [experiment.name for experiment in planned]
    shared = shared_stages(planned)
    # First what all have, then what those of one backbone and one seed have.
    assert [(stages.stages, stages.users) for stages in shared] == [
        (("download", "preprocess"), frozenset(names)),
        *((("backbone", "extract"), frozenset(names[n : n + 2])) for n in (0, 2, 4, 6)),
    ]
    for stages in shared:
        assert stages.overrides in [each.overrides for each in planned if each.name in stages.users]
    assert len({stages.name for stages in shared}) == 5
    assert shared == shared_stages(planned), "started again, a sweep finds what it has left"
    # Another rate of the head leaves all that comes before it.
    (of_all,) = shared_stages(plan([*grid[:1], "backbone=cnn", "schedule=head-only", "head.learning_rate=0.1,0.2"])[1])
    assert of_all.stages == ("download", "preprocess", "backbone", "extract")
    assert shared_stages(planned[:1]) == []


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
    with pytest.raises(ThawError, match=re.escape(f"Ray is not installed; {install_command('ray')}")):
        cluster.run_sweep(["no such"], None, None, None)


def test_a_cluster_that_is_lost_is_told_in_a_line(monkeypatch, capsys):
    import ray

    class Sweep:
        names, running, ended = ["one"], {"reference": "one"}, False

        def cancel(self) -> None:
            self.ended = True

    def wait(*_, **__):
        raise ray.exceptions.ActorUnavailableError("the head is gone", None)

    sweep = Sweep()
    monkeypatch.setattr(cluster, "_Sweep", lambda *_: sweep)
    monkeypatch.setattr(ray, "wait", wait)
    with pytest.raises(ThawError, match=r"sweep: the Ray cluster is lost \(ActorUnavailableError\)"):
        cluster._run_all(None, [], [], 1, False)
    assert sweep.ended
    assert "started again, it runs those that are missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("TaskUnschedulableError", None),
        ("WorkerCrashedError", None),
        ("GetTimeoutError", "second cannot run thaw"),
    ],
)
def test_a_host_that_vanishes_while_a_sweep_starts_is_left_out(error, told, monkeypatch):
    import ray

    first, second = "1" * 56, "2" * 56

    class Probe:
        def options(self, scheduling_strategy):
            return SimpleNamespace(remote=lambda _: scheduling_strategy.node_id)

    def get(node, timeout):
        if node == second:
            raise getattr(ray.exceptions, error)(*["gone"] * (error != "WorkerCrashedError"))
        return True

    nodes = [{"NodeID": first, "NodeManagerHostname": "first", "Alive": True}]
    nodes.append({"NodeID": second, "NodeManagerHostname": "second", "Alive": True})
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "remote", lambda **_: lambda _: Probe())
    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(ThawError, match=told) if told else nullcontext():
        assert cluster._hosts_apart(None) == []


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


def test_the_lock_is_held_until_the_last_child_has_saved_its_state(tmp_path):
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import pathlib, signal, time\n"
        "def save(*_):\n"
        "    time.sleep(1)\n"
        "    pathlib.Path('saved').touch()\n"
        "    raise SystemExit\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('begun', flush=True)\n"
        "time.sleep(60)\n"
    )
    # The command ends by SIGTERM at once, as DVC does before its stages.
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, {str(stage)!r}]).wait()"
    leash = subprocess.Popen(
        [sys.executable, "-m", "thaw.app.sweep.leash", str(tmp_path / "lock"), str(tmp_path / "log"), str(tmp_path)]
        + [sys.executable, "-c", program],
        cwd=ROOT, stdin=subprocess.PIPE,
    )  # fmt: skip
    _wait(lambda: work.last_line(tmp_path / "log") == "begun")
    leash.stdin.close()
    assert leash.wait(timeout=20) == 128 + signal.SIGTERM
    assert (tmp_path / "saved").exists()


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
    log.write_bytes(b"ERROR: unexpected error - locked\n\nHaving any troubles? Hit us up at https://dvc.org/support\n")
    assert work.last_line(log) == "ERROR: unexpected error - locked"


def test_locks_that_a_killed_attempt_has_left_in_its_clone_are_removed(checkout):
    shutil.copytree(ROOT / ".dvc", checkout / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    _git(checkout, "add", ".")
    _git(checkout, "commit", "--quiet", "-m", "DVC")
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    home = work.Home(
        str(checkout), "token", commit, b"", str(checkout / ".dvc/cache"), {}, ("test", "test@localhost"), 1
    )
    (checkout / work.OURS).mkdir(parents=True)
    (checkout / work.OURS / "token").touch()
    with work._clone(home, "one", lambda _: None) as clone:
        locks = [clone.folder / ".git" / name for name in ("index.lock", "objects/7f/0a.lock", "refs/exps/a.lock")]
        for lock in locks:
            lock.parent.mkdir(parents=True, exist_ok=True)
            lock.touch()
    with work._clone(home, "one", lambda _: None) as again:
        assert again.folder == clone.folder
    assert not [lock for lock in locks if lock.exists()]


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
        self.project = short_pipeline(folder)
        self.listening: set[str] = set()
        self.first = self._interrupted(folder.with_suffix(".first.log"))
        output = folder.with_suffix(".second.log")
        assert start_sweep(self.project, GRID, output, "--jobs", "2").wait(timeout=600) == 0
        self.second = output.read_text()

    def _interrupted(self, output: Path) -> str:
        sweep = start_sweep(self.project, GRID, output, "--jobs", "2")
        try:
            self._disturb(sweep, psutil.Process(sweep.pid), output)
        finally:
            sweep.kill()  # what it has started ends with it
        return output.read_text()

    def _disturb(self, sweep: subprocess.Popen, tree: psutil.Process, output: Path) -> None:
        worker = _wait(lambda: worker_above(tree.children(recursive=True), "stages.train_head"))
        self.listening = {
            connection.laddr.ip
            for process in [tree, *tree.children(recursive=True)]
            for connection in _connections(process)
            if connection.status == psutil.CONN_LISTEN
        }
        worker.kill()
        _wait(lambda: b": done: " in output.read_bytes())
        _wait(lambda: worker_above(tree.children(recursive=True), "leash"))
        children = tree.children(recursive=True)
        sweep.send_signal(signal.SIGINT)
        self.code = sweep.wait(timeout=60)
        self.left = psutil.wait_procs(children, timeout=5)[1]


def _connections(process: psutil.Process) -> list:
    try:
        return process.net_connections("inet")
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Swept:
    return Swept(tmp_path_factory.mktemp("sweep") / "project")


@pytest.fixture(scope="module")
def alone(swept, tmp_path_factory) -> dict:
    """What the experiments make that run one by one."""
    project = Project(tmp_path_factory.mktemp("alone"), swept.project.folder)
    run_one_by_one(project, EXPERIMENTS)
    made = computed(made_by(project))
    assert [*made] == EXPERIMENTS
    return made


@pytest.mark.slow
def test_a_sweep_that_was_cut_off_twice_equals_its_experiments_run_one_by_one(swept, alone):
    assert computed(made_by(swept.project)) == {key: alone[key] for key in OF_GRID}


@pytest.mark.slow
def test_a_stage_that_experiments_share_runs_once(swept):
    _each_shared_stage_ran_once(swept.project)
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


@pytest.mark.slow
def test_two_hosts_without_a_common_disk_share_stages_and_lose_nothing_when_one_vanishes(swept, alone, tmp_path):
    (tmp_path / "home").mkdir()
    project = Project(tmp_path / "home", swept.project.folder)
    project.dvc("remote", "add", "--default", "both", str(tmp_path / "remote"))
    project.commit("a remote")
    output, second = tmp_path / "sweep.log", tmp_path / "second"
    with Hosts(tmp_path / "first", second) as hosts:
        sweep = start_sweep(project, CUBE, output, "--on", hosts.address)
        try:
            _wait(lambda: sweep.poll() is not None or _trains(second))
            hosts.lose(second)
            code = sweep.wait(timeout=600)
        finally:
            sweep.kill()
    assert code == 0, output.read_text()
    assert "lost its worker (" in output.read_text()
    assert "8 experiments done" in output.read_text()
    assert computed(made_by(project)) == alone
    assert project.git("status", "--porcelain") == ""
    _each_shared_stage_ran_once(project)


def _trains(folder: Path) -> bool:
    """Whether a head is trained in an experiment's clone below a folder."""
    logs = folder.glob(f"*/{work.OURS}/units*.log")  # not below the clones, which vanish meanwhile
    return any(b"train_head" in log.read_bytes() for log in logs)


def _each_shared_stage_ran_once(project: Project) -> None:
    of_all, of_seed = set(), set()
    for (_, seed, _), outs in made_by(project).items():
        hashes = times(outs)
        of_all.add(tuple(hashes[stage] for stage in STAGES[:2]))
        of_seed.add((seed, *(hashes[stage] for stage in STAGES[2:4])))
    assert (len(of_all), len(of_seed)) == (1, 2)
