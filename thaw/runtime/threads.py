"""Work on many items in threads, in order and in little memory; and what sets the threads of libraries."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Environment variables with a number of threads: of TensorFlow, of JAX on a CPU, of NumPy and SciPy.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

# Results that lie in memory, at most.
_AHEAD = 64


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Call a function with each item in threads, and give the results in order.

    Unlike `Executor.map`, it begins no more than some items before the result that is taken.

    Args:
        threads: how many; None for a few more than processor cores.
    """
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
