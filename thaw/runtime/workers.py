"""Processes that do the tasks of a list side by side with this one. Start at `Workers`."""

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

# Seconds between two looks at whether a worker that starts is still needed.
_PERIOD = 0.2


class Workers:
    """This process and others, each of which takes the next task when it has done one.

    A worker that ends, however it does, takes no other task; what it had begun is done by another one, at the latest
    by this process. So an error that is no worker's own is raised here.
    """

    def __init__(self, what: str, count: int, target: Callable[..., None] | None, *arguments: Any) -> None:
        """Prepare; the processes are started with the first list of more than one task.

        Args:
            what: is done, for messages.
            count: of processes, with this one.
            target: what a worker runs, with a `Connection` and `arguments`; it gets its tasks from `received_tasks`
                and sends each one's result. It and they can be pickled. None for a count of 1.
        """
        self._what, self.count, self._target, self._arguments = what, count, target, arguments
        self._workers: list[_Worker] | None = None
        self._error: BaseException | None = None
        self._lock, self._closed = threading.Lock(), False

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        self._closed = True
        for worker in self._workers or ():
            worker.process.kill()  # it may wait for a GPU; what is done is recorded
            worker.process.join()

    def run(self, tasks: Iterable[Any], work: Callable[[Any], Any], record: Callable[[Any, Any], None]) -> None:
        """Do all tasks, in any order.

        Args:
            tasks: can be pickled.
            work: does a task in this process.
            record: called with each task that is done and its result; from any thread, one at a time.

        Raises:
            Exception: what `work` or `record` raise.
        """
        self._left, self._record = deque(tasks), record
        threads = [threading.Thread(target=self._feed, args=(worker,), daemon=True) for worker in self._started()]
        for thread in threads:
            thread.start()
        while True:
            for task in iter(self._next, None):
                self._done(task, work(task))
            for thread in threads:
                thread.join()
            if self._error is not None:
                raise self._error
            if not self._left:
                return

    def _started(self) -> list["_Worker"]:
        if self._workers is None and self._target is not None and self.count > 1 and len(self._left) > 1:
            self._workers = [_Worker(self._target, self._arguments) for _ in range(self.count - 1)]
        return [worker for worker in self._workers or () if worker.process.is_alive()]

    def _next(self) -> Any:
        try:
            return None if self._error is not None else self._left.popleft()
        except IndexError:
            return None

    def _done(self, task: Any, result: Any) -> None:
        with self._lock:
            self._record(task, result)

    def _feed(self, worker: "_Worker") -> None:
        """Hand a worker one task after the other; a thread of its own."""
        task = None
        try:
            while not worker.ready and self._left:
                worker.ready = worker.connection.poll(_PERIOD) and worker.connection.recv() is None
            while worker.ready and (task := self._next()) is not None:
                worker.connection.send(task)
                self._done(task, worker.connection.recv())
                task = None
        except (EOFError, ConnectionError):
            if self._closed:
                return
            worker.process.join()
            if task is not None:
                self._left.append(task)
            print(f"{self._what}: a worker ended with {_end(worker.process.exitcode)}; going on without it", flush=True)
        except BaseException as error:  # of `record`: raised where `run` was called
            self._error = error


def _end(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


class _Worker:
    def __init__(self, target: Callable[..., None], arguments: tuple) -> None:
        # Not forked: TensorFlow's threads do not live on in a copy of a process.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, target, arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.ready = False


def _serve(connection: Connection, target: Callable[..., None], arguments: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    target(connection, *arguments)


def received_tasks(connection: Connection) -> Iterator[Any]:
    """In a worker: tell that it is ready, then the tasks that come, up to the end of the process that sends them."""
    try:
        connection.send(None)
        while True:
            yield connection.recv()
    except (EOFError, ConnectionError):
        return
