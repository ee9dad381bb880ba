"""Several devices that train one phase: refusals, and that they end where one does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers.project import ROOT
from tests.helpers.replica_runs import FLAGS
from thaw.data.examples import Examples
from thaw.errors import ParamError
from thaw.network import replicas
from thaw.network.replicas import Replicas, active_replicas, padded, replica_count, use_replicas
from thaw.runtime.launched import ADDRESS, Processes
from thaw.training.feed import Batches, BatchPlan


@pytest.mark.parametrize(
    ("asked", "devices", "batch_size", "expected"),
    [
        (1, 4, 7, 1),
        (2, 4, 8, 2),
        (4, 4, 8, 4),
        ("auto", 1, 7, 1),
        ("auto", 4, 8, 4),
        ("auto", 4, 6, 3),
        ("auto", 3, 7, 1),
    ],
)
def test_auto_takes_as_many_devices_as_divide_a_batch(asked, devices, batch_size, expected):
    assert replica_count(asked, devices, batch_size) == expected


def test_more_replicas_than_devices_are_refused_in_one_line():
    with pytest.raises(ParamError) as refused:
        replica_count(4, 2, 8)
    assert str(refused.value) == "run.replicas: received 4; accepted: 1 to 2, the devices there are, or auto"


def test_a_process_has_one_replica_unless_it_asks_for_more():
    assert use_replicas(1, 8) == active_replicas().count == 1
    assert use_replicas("auto", 8) == active_replicas().count == 1, "of a CPU, or on TensorFlow"


@pytest.mark.parametrize(("count", "expected"), [(1, 3), (3, 3), (4, 6), (6, 6)])
def test_a_batch_is_padded_to_what_the_replicas_divide(monkeypatch, count, expected):
    monkeypatch.setattr(replicas, "_active", Replicas(3))
    assert padded(count) == expected


@pytest.mark.parametrize(
    ("asked", "processes", "expected"),
    [
        (3, 2, "run.replicas: received 3; accepted: a multiple of 2, the processes that were started, or auto"),
        (1, 2, "run.replicas: received 1; accepted: a multiple of 2, the processes that were started, or auto"),
        (8, 2, "run.replicas: received 8; accepted: 1 to 4, the devices there are, or auto"),
        ("auto", 3, "batch_size: received 8; accepted: a multiple of 3, as the processes divide each batch"),
    ],
)
def test_processes_that_do_not_divide_the_replicas_or_a_batch_are_refused(asked, processes, expected):
    with pytest.raises(ParamError) as refused:
        replica_count(asked, 2, 8, processes)
    assert str(refused.value) == expected


@pytest.mark.parametrize(("asked", "expected"), [(4, 2), (2, 1), ("auto", 2)])
def test_each_process_has_its_share_of_the_replicas(asked, expected):
    assert replica_count(asked, 2, 8, processes=2) == expected
    assert replica_count("auto", 2, 6, processes=2) == 1


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_the_shares_of_two_processes_are_the_whole_batch(monkeypatch, mixup):
    labels = np.arange(16) % 3
    known = Examples(np.arange(16, dtype=np.float32)[:, None], labels)
    plan = BatchPlan.draw(16, 8, mixup, 0)
    batches = Batches(known, 8, plan.targets(labels, 3), plan, np.arange(16, dtype=np.float32))

    def shares(number: int) -> list[np.ndarray]:
        parts = []
        for process in range(2):
            monkeypatch.setattr(replicas, "_active", Replicas(2, processes=Processes(2, process)))
            parts.append(keras.tree.flatten(batches[number]))
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    found = [shares(number) for number in range(2)]
    monkeypatch.setattr(replicas, "_active", Replicas())
    for number, parts in enumerate(found):
        for mine, whole in zip(parts, keras.tree.flatten(batches[number]), strict=True):
            np.testing.assert_array_equal(mine, whole)


def start(*words: object, **variables: str) -> subprocess.Popen:
    environment = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": FLAGS} | variables
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def output(process: subprocess.Popen) -> str:
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told
    return told


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The folder of the runs of `tests.helpers.replica_runs`."""
    folder = tmp_path_factory.mktemp("runs")
    flags = f"{FLAGS} --xla_force_host_platform_device_count=2"
    told = output(start("tests.helpers.replica_runs", folder, XLA_FLAGS=flags))
    (folder / "output.txt").write_text(told)
    return folder


def assert_equal_runs(one: Path, other: Path) -> None:
    """Weights, history and temperature agree to 1e-5."""
    with np.load(one) as expected, np.load(other) as found:
        assert sorted(found) == sorted(expected)
        assert expected["history"][1, 2] < expected["history"][0, 2], "or nothing was learnt that could differ"
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_devices_of_one_process_end_where_one_device_does(runs):
    assert_equal_runs(runs / "one.npz", runs / "devices.npz")


@pytest.mark.slow
def test_two_devices_resume_what_one_began_and_where_examples_are_read_by_batch(runs):
    assert "resumed.npz: from epoch 1 on" in (runs / "output.txt").read_text()
    assert_equal_runs(runs / "one.npz", runs / "resumed.npz")


@pytest.mark.slow
def test_two_processes_end_where_one_device_does(runs):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    variables = {ADDRESS: address, "JAX_NUM_PROCESSES": "2"}
    words = "tests.helpers.replica_runs", runs
    processes = [start(*words, **variables, JAX_PROCESS_ID=str(number)) for number in range(2)]
    for process in processes:
        output(process)
    assert_equal_runs(runs / "one.npz", runs / "processes.npz")
