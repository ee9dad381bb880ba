"""GPUs are shared out: one stage on each at a time, the others wait. The machine's are simulated by an `nvidia-smi`."""

import os
import select
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.helpers.project import ROOT
from thaw.runtime import gpus
from thaw.runtime.gpus import LOCKS, VISIBLE, give_back_gpu, held, take_gpu, take_gpus, visible_gpus
from thaw.runtime.locks import lock_of_all_users

LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aa11)
  MIG 3g.20gb     Device  0: (UUID: MIG-11)
  MIG 3g.20gb     Device  1: (UUID: MIG-12)
GPU 1: NVIDIA A100 (PCIe) (UUID: GPU-ab22)
GPU 2: NVIDIA A100 (PCIe) (UUID: GPU-cc33)
"""


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, "MIG-11 MIG-12 GPU-ab22 GPU-cc33"),
        ("", ""),
        ("-1", ""),
        ("NoDevFiles", ""),
        ("1", "GPU-ab22"),
        ("2,1", "GPU-cc33 GPU-ab22"),
        ("2, 1 ,2", "GPU-cc33 GPU-ab22"),
        ("2,-1,1", "GPU-cc33"),
        ("2,7,1", "GPU-cc33"),
        ("0", "MIG-11 MIG-12"),
        ("GPU-aa11", "MIG-11 MIG-12"),
        ("MIG-12", "MIG-12"),
        ("GPU-c,GPU-ab22", "GPU-cc33 GPU-ab22"),
    ],
)
def test_what_the_variable_names_is_shared_out(asked, expected):
    assert visible_gpus(LISTED, asked) == expected.split()


# A stage that ends when it is told to, on a simulated backend, which says what it sees when it is loaded.
STAGE = """
import os, sys
from dataclasses import replace
from thaw import stage
from thaw.network import backend

cpu = stage.use_backend

def use(name, settings, data_gb):
    if sys.argv[2] == "cpu":
        cpu(name, settings, data_gb)
    else:
        backend._active = replace(backend._active, kind="gpu", name="simulated")
    return f"sees {os.environ.get('CUDA_VISIBLE_DEVICES')}"

def work(params):
    print("works", flush=True)
    sys.stdin.readline()

stage.use_backend = use
stage.provenance = lambda: {"device": backend.active_device().name}
stage.STAGES[sys.argv[1]] = stage.Stage("__main__", "work")
stage.run_stage(sys.argv[1])
"""


class Machine:
    """A machine with two GPUs, and a checkout for each process, as in DVC's queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uuids = [f"GPU-{uuid.uuid4()}" for _ in range(2)]
        self.processes: list[subprocess.Popen] = []
        smi = folder / "bin/nvidia-smi"
        smi.parent.mkdir()
        lines = [f"echo 'GPU {number}: Simulated (UUID: {name})'" for number, name in enumerate(self.uuids)]
        smi.write_text("\n".join(["#!/bin/sh", '[ "$*" = -L ] || exit 2', *lines]) + "\n")
        smi.chmod(0o755)

    def start(self, name: str, kind: str = "gpu", smi: bool = True, **variables: str) -> subprocess.Popen:
        checkout = self.folder / f"{name}-{len(self.processes)}"
        checkout.mkdir()
        (checkout / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        environment = {key: value for key, value in os.environ.items() if key not in (VISIBLE, "DVC_STAGE")}
        environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{self.folder}/bin:{os.environ['PATH']}"} | variables
        if not smi:
            environment["PATH"] = str(self.folder)
        self.processes.append(
            subprocess.Popen(
                [sys.executable, "-c", STAGE, name, kind],
                cwd=checkout,
                env=environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
        return self.processes[-1]


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    yield machine
    for process in machine.processes:
        process.kill()
        process.communicate()
    for name in machine.uuids:
        (LOCKS / f"thaw-{name}.lock").unlink(missing_ok=True)


def lines(process: subprocess.Popen, count: int) -> list[str]:
    return [process.stdout.readline().strip() for _ in range(count)]


def end(process: subprocess.Popen) -> None:
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def has(name: str, machine: Machine, number: int) -> list[str]:
    gpu = machine.uuids[number]
    return [f"{name}: has GPU {number + 1} of 2, {gpu}", f"{name}: sees {gpu}", "works"]


WAITS = "c: waiting for a GPU, 2 of 2 are taken"


def test_the_third_of_three_stages_gets_the_first_gpu_that_is_free(machine):
    some = [machine.start("a")]
    assert lines(some[0], 3) == has("a", machine, 0)
    some.append(machine.start("b"))
    assert lines(some[1], 3) == has("b", machine, 1)
    third = machine.start("c")
    assert lines(third, 1) == [WAITS]
    end(some[1])
    assert lines(third, 3) == has("c", machine, 1)
    end(some[0])
    end(third)


def test_many_stages_at_once_are_never_two_on_one_gpu(machine):
    """Each holds its GPU until this test has read who has which."""
    waiting = [machine.start("s") for _ in range(5)]
    holders: dict[str, subprocess.Popen] = {}
    seen = []
    for process in list(waiting):
        said = lines(process, 1)
        if "waiting" in said[0]:
            continue
        waiting.remove(process)
        gpu = lines(process, 2)[0].split()[-1]
        assert gpu not in holders
        holders[gpu] = process
    assert len(holders) == 2
    assert len(waiting) == 3
    while waiting:
        gpu, holder = holders.popitem()
        end(holder)
        # One of those that wait, and no more than one, says that it has this one.
        ready, _, _ = select.select([process.stdout for process in waiting], [], [], 60)
        assert len(ready) == 1
        process = next(process for process in waiting if process.stdout in ready)
        waiting.remove(process)
        assert lines(process, 2)[0].split()[-1] == gpu
        seen.append(gpu)
        holders[gpu] = process
    assert len(seen) == 3


def test_a_gpu_is_free_again_when_its_stage_is_killed(machine):
    first, second = machine.start("a"), machine.start("b")
    taken = [lines(process, 3)[1].split()[-1] for process in (first, second)]
    assert sorted(taken) == sorted(machine.uuids)
    third = machine.start("c")
    assert lines(third, 1) == [WAITS]
    second.kill()
    assert lines(third, 2)[1] == f"c: sees {taken[1]}"


def test_a_stage_that_waits_can_be_ended(machine):
    for name in "ab":
        lines(machine.start(name), 3)
    third = machine.start("c")
    assert lines(third, 1) == [WAITS]
    third.send_signal(signal.SIGTERM)
    assert lines(third, 1) == ["c: ended by SIGTERM; the next run resumes from saved state"]
    assert third.wait(60) == 128 + signal.SIGTERM


def test_no_more_is_shared_out_than_the_variable_names(machine):
    first = machine.start("a", CUDA_VISIBLE_DEVICES="1")
    assert lines(first, 2) == [f"a: sees {machine.uuids[1]}", "works"]
    second = machine.start("c", CUDA_VISIBLE_DEVICES=machine.uuids[1])
    assert lines(second, 1) == ["c: waiting for a GPU, 1 of 1 are taken"]
    third = machine.start("b")
    assert lines(third, 3) == has("b", machine, 0)


@pytest.mark.parametrize("variable", [{}, pytest.param({"CUDA_VISIBLE_DEVICES": "0"}, marks=pytest.mark.slow)])
def test_without_a_driver_nothing_happens(machine, variable):
    process = machine.start("a", kind="cpu", smi=False, **variable)
    assert lines(process, 2) == [f"a: sees {variable.get('CUDA_VISIBLE_DEVICES')}", "works"]


@pytest.mark.slow
def test_who_wants_no_gpu_gets_none_and_waits_for_none(machine):
    for name in "ab":
        lines(machine.start(name), 3)
    process = machine.start("c", kind="cpu", CUDA_VISIBLE_DEVICES="-1")
    assert lines(process, 2) == ["c: sees -1", "works"]


@pytest.mark.slow
def test_a_backend_without_cuda_gives_its_gpu_back(machine):
    for name in "abc":
        assert "works" in lines(machine.start(name, kind="cpu"), 3)


def test_what_a_stage_writes_does_not_tell_which_gpu_it_had(machine):
    written = []
    for name in "ab":
        process = machine.start(name)
        assert lines(process, 3) == has(name, machine, "ab".index(name))
    for name, process in zip("ab", machine.processes, strict=True):
        end(process)
        folder = machine.folder / f"{name}-{'ab'.index(name)}"
        written.append((folder / f"metrics/provenance/{name}.json").read_bytes())
        assert machine.uuids["ab".index(name)] not in (folder / f"metrics/time/{name}.json").read_text()
    assert written[0] == written[1]


def test_a_lock_is_for_all_users_and_may_be_deleted_while_nobody_has_it(tmp_path):
    path = tmp_path / "gpu.lock"
    with lock_of_all_users(path):
        assert path.stat().st_mode & 0o777 == 0o666
        assert lock_of_all_users(path) is None
    path.unlink()
    with lock_of_all_users(path) as again:
        assert again


def test_where_no_lock_can_be_written_all_gpus_stay_visible(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpus, "LOCKS", tmp_path / "none")
    monkeypatch.setattr(gpus, "usable_gpus", lambda: ["GPU-1", "GPU-2"])
    monkeypatch.delenv(VISIBLE, raising=False)
    take_gpu("a")
    assert held is None
    assert VISIBLE not in os.environ
    assert capsys.readouterr().out == f"a: GPUs are not shared out: {tmp_path / 'none'}: No such file or directory\n"


def test_a_stage_of_two_gpus_waits_for_both_and_holds_none_meanwhile(machine, monkeypatch, capsys):
    monkeypatch.setattr(gpus, "usable_gpus", lambda: machine.uuids)
    monkeypatch.setenv(VISIBLE, "all")
    locks = [LOCKS / f"thaw-{name}.lock" for name in machine.uuids]
    second = lock_of_all_users(locks[1])

    def while_it_waits(seconds: float) -> None:
        with lock_of_all_users(locks[0]) as first:
            assert first, "or two stages, each of which has one, would wait for ever"
        second.close()

    monkeypatch.setattr(gpus.time, "sleep", while_it_waits)
    take_gpus("a", lambda there: there)
    try:
        assert os.environ[VISIBLE] == ",".join(machine.uuids)
        assert lock_of_all_users(locks[0]) is lock_of_all_users(locks[1]) is None
    finally:
        give_back_gpu()
    assert all(lock_of_all_users(lock) for lock in locks)
    assert capsys.readouterr().out.splitlines() == [
        "a: waiting for 2 GPUs, 1 of 2 are taken",
        f"a: has GPU 1 and 2 of 2, {', '.join(machine.uuids)}",
    ]


def test_a_command_takes_a_free_gpu_too_and_says_so_beside_its_output(machine):
    assert "works" in lines(machine.start("a"), 3)
    code = """
from dataclasses import replace
from types import SimpleNamespace
from thaw.app.commands import common
from thaw.network.backend import active_device
common.use_backend = lambda backend, settings, data_gb: replace(active_device(), kind="gpu")
run = SimpleNamespace(data_gb="auto")
common.set_up_backend("predict", SimpleNamespace(backend="tensorflow", device=None, run=run))
import os
print(os.environ["CUDA_VISIBLE_DEVICES"])
"""
    environment = {key: value for key, value in os.environ.items() if key != VISIBLE}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{machine.folder}/bin:{os.environ['PATH']}"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stdout == f"{machine.uuids[1]}\n", result.stderr
    assert result.stderr == f"predict: has GPU 2 of 2, {machine.uuids[1]}\n"
