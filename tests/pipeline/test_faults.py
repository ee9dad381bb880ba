"""Real pipelines that are killed, told to end, or started twice lose nothing and end in the same bits."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.disks import disk
from tests.helpers.project import TINY, Project, ran
from tools import soak_stages

pytestmark = pytest.mark.slow

FEW = [*TINY, "dataset.limit=200"]
EPOCHS = 4000  # of the head, about 10 ms each: more than all tests that go on with it take


def test_stages_that_are_killed_end_in_the_bits_of_a_pipeline_that_is_left_alone(tmp_path):
    result = soak_stages.soak(tmp_path, 12, 0, 1, soak_stages.OVERRIDES)
    assert result["kills"] == 12
    assert result["wrong"] == []
    assert result["hits"].keys() > {"no write"}


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Project:
    """All that comes before train_head is done."""
    project = Project(tmp_path_factory.mktemp("ready"))
    project.run("python", "-m", "thaw", "params", "recipe=demo", *FEW, f"head.epochs={EPOCHS}", "head.patience=null")
    project.dvc("repro", "extract")
    return project


begun: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def nothing_is_left_running():
    """What a test that fails leaves would have the next one wait."""
    yield
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    begun.clear()


def begin(project: Project, *command: str, **variables: str) -> subprocess.Popen:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("KERAS_BACKEND", None)
    begun.append(subprocess.Popen(
        command, cwd=project.folder, env=environment | variables, start_new_session=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ))  # fmt: skip
    return begun[-1]


def until(process: subprocess.Popen, text: str) -> list[str]:
    """The lines up to the first that has the text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines))


def epochs(lines: list[str]) -> list[int]:
    return [int(found[1]) for line in lines if (found := re.search(rf"epoch (\d+)/{EPOCHS}", line))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_stage_in_one_line_and_it_goes_on(ready, number):
    process = begin(ready, "python", "-m", "stages.train_head")
    last = epochs(until(process, "epoch 3/"))[-1]
    process.send_signal(number)
    rest = process.stdout.readlines()
    assert process.wait(30) == 128 + number
    assert rest[-1] == f"train_head: ended by {number.name}; the next run resumes from saved state\n"
    assert not any("Traceback" in line for line in rest)
    last = max([last, *epochs(rest)])
    assert not (ready.folder / "models/head").exists()
    assert not list((ready.folder / "models").glob(".*.tmp"))
    again = begin(ready, "python", "-m", "stages.train_head")
    lines = until(again, "epoch ")
    # A signal between the save and the line of an epoch leaves one more.
    assert int(re.search(rf"saved state, after epoch (\d+)/{EPOCHS}", "".join(lines))[1]) in (last, last + 1)
    again.kill()
    again.wait()


def test_a_stage_ends_when_dvc_is_gone_and_the_next_one_waits_for_it(ready):
    process = begin(ready, "dvc", "repro", "train_head")
    until(process, "epoch ")
    process.kill()
    process.wait()  # DVC takes one that is dead, but not waited for, for alive
    second = begin(ready, "dvc", "repro", "train_head")
    rest = process.stdout.readlines()  # ends when the stage, which has the other end, does
    assert "train_head: the dvc that started this is gone\n" in rest
    lines = until(second, "epoch ")
    assert any("resuming from saved state" in line for line in lines)
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()


@pytest.mark.parametrize("module", ["stages.train_head", "thaw stage train_head"])
def test_a_stage_ends_when_dvc_is_gone_and_only_its_shell_is_left(ready, module):
    command = ["sh", "-c", f"python -m {module}; true"]  # with more to do, no shell hands itself over
    process = begin(ready, "python", "-c", f"import subprocess; subprocess.run({command})", DVC_STAGE="train_head")
    until(process, "epoch ")
    process.kill()
    process.wait()
    assert "train_head: the dvc that started this is gone\n" in process.stdout.readlines()


def test_a_stage_outlives_what_started_the_dvc_that_it_is_a_stage_of(ready, tmp_path):
    """Also where that is no command of this name, but a script that has DVC as a library."""
    script = tmp_path / "script.py"
    script.write_text("import subprocess\nsubprocess.run(['python', '-m', 'stages.train_head'])\n")
    terminal = f"import subprocess, time; subprocess.Popen(['python', {str(script)!r}]); time.sleep(600)"
    process = begin(ready, "python", "-c", terminal, DVC_STAGE="train_head", THAW_FRESH="1")
    last = epochs(until(process, "epoch "))[-1]
    process.kill()
    process.wait()
    ended = time.monotonic()
    try:
        while time.monotonic() - ended < 2:  # four looks at whether DVC still runs
            last += 1
            until(process, f"epoch {last}/")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.read()  # ends when the stage does
        ready.run("python", "-m", "thaw", "fresh")  # the other tests need epochs that are left


def test_two_processes_of_a_stage_do_not_write_at_once(ready):
    first = begin(ready, "python", "-m", "stages.train_head")
    until(first, "epoch ")
    first.send_signal(signal.SIGSTOP)  # all its epochs may take less than the start of the second
    second = begin(ready, "python", "-m", "stages.train_head")
    until(second, f"train_head: waiting for process {first.pid}, which does the same")
    first.send_signal(signal.SIGTERM)
    first.send_signal(signal.SIGCONT)
    assert first.wait(30) == 128 + signal.SIGTERM
    until(second, "resuming from saved state")
    second.kill()
    second.wait()


def test_fresh_starts_anew(ready):
    process = begin(ready, "python", "-m", "stages.train_head")
    until(process, "epoch ")
    process.kill()
    process.wait()
    fresh = begin(ready, "python", "-m", "stages.train_head", THAW_FRESH="1")
    lines = until(fresh, "epoch ")
    fresh.kill()
    fresh.wait()
    assert epochs(lines) == [1]
    assert not any("resuming" in line for line in lines)


def test_all_saved_state_can_be_dropped(ready):
    process = begin(ready, "python", "-m", "stages.train_head")
    until(process, "epoch ")
    process.kill()
    process.wait()
    assert (ready.folder / ".dvc/thaw").is_dir()
    ready.run("python", "-m", "thaw", "fresh")
    assert not (ready.folder / ".dvc/thaw").exists()


LOST = """
import os, signal, time
from thaw import stage
class Deleted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
def work(params):
    Deleted()
    print("goes on", flush=True)
    time.sleep(60)
stage.STAGES["extract"] = stage.Stage("__main__", "work", keras=False)
stage.run_stage("extract")
"""


def test_a_signal_is_not_lost_where_no_exception_can_be_raised(ready):
    process = begin(ready, "python", "-c", LOST)
    told = "extract: ended by SIGTERM; the next run resumes from saved state"
    assert process.stdout.read().splitlines() == ["goes on", told]
    assert process.wait() == 128 + signal.SIGTERM


# What a stage says and how it ends, for errors that no machine can be made to have on purpose.
FAILS = """
import sys
from thaw import stage
def work(params) -> None:
    raise {error}
stage.STAGES["extract"] = stage.Stage("__main__", "work", keras=False)
stage.run_stage("extract")
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "OSError(28, 'No space left on device', 'data/x.npy')",
            "extract: No space left on device: data/x.npy; when the cause is gone, `dvc repro` resumes",
        ),
        ("OSError('odd')", "extract: odd; when the cause is gone, `dvc repro` resumes"),
        *(
            (
                error,
                "extract: out of memory; lower batch_size, extract.batch_size or backbone.image_size "
                "(now 32, 256 and 32)",
            )
            for error in ("MemoryError()", "RuntimeError('RESOURCE_EXHAUSTED: x')", "ValueError('OOM when allocating')")
        ),
    ],
)
def test_what_the_machine_lacks_is_told_in_one_line(ready, error, told):
    process = begin(ready, "python", "-c", FAILS.format(error=error))
    assert process.stdout.read() == f"{told}\n"
    assert process.wait() == 1


GOES_ON = """
import os, signal, time
from thaw import stage
from thaw.runtime.resume import open_state
def work(params):
    with open_state("extract", {}, [], "cpu") as saved:
        if saved.content is None:
            time.sleep(1)
            saved.save({}, {})
            os.kill(os.getpid(), signal.SIGKILL)
        return saved.earlier
stage.STAGES["extract"] = stage.Stage("__main__", "work", keras=False)
stage.run_stage("extract")
"""


def test_the_seconds_of_a_stage_are_those_of_all_processes_that_worked_on_it(ready):
    assert begin(ready, "python", "-c", GOES_ON).wait(60) == -signal.SIGKILL
    assert begin(ready, "python", "-c", GOES_ON).wait(60) == 0
    assert json.loads((ready.folder / "metrics/time/extract.json").read_text())["seconds"] >= 1


def test_other_errors_are_not_hidden(ready):
    process = begin(ready, "python", "-c", FAILS.format(error="ZeroDivisionError('a mistake of ours')"))
    assert "Traceback" in process.stdout.read()
    assert process.wait() == 1


def test_a_disk_without_room_for_the_features_is_told(ready):
    """A limit on the size of files stands for the disk: the same call fails, with another number."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    limit += "import runpy; runpy.run_module('stages.extract', run_name='__main__')"
    before = {file.name: file.read_bytes() for file in (ready.folder / "data/features").iterdir()}
    process = begin(ready, "python", "-c", limit)
    lines = process.stdout.readlines()
    assert process.wait() == 1
    assert lines[-1].startswith("extract: File too large")
    assert not any("Traceback" in line for line in lines)
    assert {file.name: file.read_bytes() for file in (ready.folder / "data/features").iterdir()} == before
    ready.run("python", "-m", "stages.extract")


def test_a_full_disk_is_told_by_every_stage_and_it_goes_on_when_there_is_room(tmp_path):
    """Free bytes are such that the disk is full early, and in the middle, of what a stage writes."""
    stages = {
        "download": [8],
        "preprocess": [60, 1000],
        "backbone": [8, 1000],
        "extract": [8, 120, 250, 1000],
        "train_head": [8, 120, 1000],
        "unfreeze@top": [24, 1000],
        "unfreeze@all": [2000],
        "evaluate": [0, 24],
        "figures": [0, 24],
    }
    with disk(tmp_path / "disk") as small:
        folder = small.folder / "project"
        folder.mkdir()
        project = Project(folder)
        project.run("python", "-m", "thaw", "params", "recipe=demo", *FEW, "extract.cuts=[0,1,2]")
        for stage, sizes in stages.items():
            for free in sizes:
                small.leave(free * 1024)
                name, *phase = stage.split("@")
                output = project.run("python", "-m", f"stages.{name}", *phase, check=False)
                last = output.splitlines()[-1]
                assert re.fullmatch(
                    rf"{stage}: No space left on device(: .*)?; when the cause is gone, .* resumes", last
                )
                assert "Traceback" not in output
                assert not [file for file in folder.rglob("*.tmp") if ".dvc/tmp" not in str(file)]
            small.grow()
            assert ran(project.dvc("repro", stage)) == [stage]
        assert not ran(project.dvc("repro"))
