"""Tasks that several processes do: each once, whatever ends a worker."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil
import pytest

from thaw.runtime.workers import Workers, received_tasks


def square(connection: Connection) -> None:
    for task in received_tasks(connection):
        connection.send((os.getpid(), task**2))


def own_square(task: int) -> tuple[int, int]:
    time.sleep(0.05)
    return os.getpid(), task**2


def square_together(connection: Connection, meeting: Barrier) -> None:
    for task in received_tasks(connection):
        meeting.wait()
        connection.send((os.getpid(), task**2))


def end_over_3(connection: Connection, how: str) -> None:
    for task in received_tasks(connection):
        if task == 3:
            if how == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            sys.exit(7)
        connection.send((os.getpid(), task**2))


def never_ready(connection: Connection) -> None:
    time.sleep(600)


def run(workers: Workers, tasks, work=own_square) -> dict[int, tuple[int, int]]:
    results: dict[int, tuple[int, int]] = {}

    def record(task: int, result: tuple[int, int]) -> None:
        assert task not in results
        results[task] = result

    workers.run(tasks, work, record)
    return results


def test_each_task_is_done_once_by_one_of_the_processes():
    with Workers("squares", 3, square) as workers:
        for tasks in (range(200), range(200, 300), []):
            results = run(workers, tasks)
            assert {task: value for task, (_, value) in results.items()} == {task: task**2 for task in tasks}
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


def test_all_processes_work_at_the_same_time():
    meeting = multiprocessing.get_context("spawn").Barrier(3, timeout=120)  # no task ends before three have begun

    def work(task: int) -> tuple[int, int]:
        meeting.wait()
        return os.getpid(), task**2

    with Workers("squares", 3, square_together, meeting) as workers:
        results = run(workers, range(30), work)
    assert {task: value for task, (_, value) in results.items()} == {task: task**2 for task in range(30)}
    assert [*Counter(process for process, _ in results.values()).values()] == [10, 10, 10]


def test_one_process_or_one_task_starts_no_other():
    with Workers("squares", 1, square) as alone, Workers("squares", 3, square) as workers:
        assert [*run(alone, range(5))] == [0, 1, 2, 3, 4]
        assert [*run(workers, [5])] == [5]
        assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("how", "told"), [("SIGKILL", "SIGKILL"), ("exit", "exit code 7")])
def test_what_a_worker_had_begun_that_ended_is_done_by_another(capsys, how, told):
    def work(task: int) -> tuple[int, int]:
        while multiprocessing.active_children():  # the worker comes first
            time.sleep(0.05)
        return own_square(task)

    with Workers("squares", 2, end_over_3, how) as workers:
        results = run(workers, [0, 1, 3, 2, *range(4, 30)], work)
        assert {task: value for task, (_, value) in results.items()} == {task: task**2 for task in range(30)}
        assert capsys.readouterr().out == f"squares: a worker ended with {told}; going on without it\n"
        assert [*run(workers, range(3))] == [0, 1, 2]


def test_a_worker_that_is_not_ready_is_not_waited_for():
    with Workers("squares", 2, never_ready) as workers:
        started = time.perf_counter()
        assert len(run(workers, range(3))) == len(run(workers, range(3))) == 3
    assert time.perf_counter() - started < 60


def test_an_error_of_this_process_is_raised():
    def fail(task: int) -> None:
        raise OSError("No space left on device")

    with Workers("squares", 2, square) as workers, pytest.raises(OSError, match="No space left"):
        run(workers, range(50), fail)


def test_an_error_of_recording_a_workers_result_is_raised():
    def record(task: int, result: tuple[int, int]) -> None:
        if result[0] != os.getpid():
            raise OSError("No space left on device")

    with Workers("squares", 2, square) as workers, pytest.raises(OSError, match="No space left"):
        workers.run(range(10_000), own_square, record)


def test_a_worker_ends_with_the_process_that_started_it(tmp_path):
    program = """
import os, signal
from tests.runtime.test_workers import own_square, square
from thaw.runtime.workers import Workers
def record(task, result):
    if result[0] != os.getpid():
        print(result[0], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    with Workers("squares", 2, square) as workers:
        workers.run(range(10_000), own_square, record)
"""
    (tmp_path / "program.py").write_text(program)
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, tmp_path / "program.py"], env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True
    )
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()
    worker = int(result.stdout)
    for _ in range(100):
        if not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    raise AssertionError("it still runs after 10 s")
