"""Work in several processes at once, its results in order, with bounded memory.

``joblib`` has the same as a generator, but its input is read as fast as it is worked on, however
slowly the results are taken, and its processes live on for minutes when their parent is killed.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from demand.errors import StateError

Item = TypeVar("Item")
Result = TypeVar("Result")

# One process reads for all, which keeps about three others busy.
_WORKERS_MAX = 4
# The function of a worker's whole life: a model is sent once, and not with each item.
_function: Callable[[Any], Any]


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], alone: int
) -> Iterator[Result]:
    """Yield ``function`` of each item: of the first ``alone`` here, of all others in workers.

    There are as many workers as cores, at most four, if there are more items at all. They get
    the function and the items pickled. At most two items a worker are taken ahead of the result
    that is yielded.

    Raises
    ------
    StateError
        A worker was killed.
    """
    items = iter(items)
    yield from map(function, itertools.islice(items, alone))
    for first in items:
        yield from _in_workers(function, itertools.chain([first], items))


def _in_workers(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    workers = min(os.cpu_count() or 1, _WORKERS_MAX)
    # A fork would copy the locks of other threads as they are, locked or not.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(function,))
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(_submit(pool, item))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BrokenProcessPool as error:
        raise StateError(
            "a process that answered was killed, perhaps because there is too little memory: "
            "free some, and run the same command again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, item: Any) -> Future[Any]:
    """Let a worker, which may be started for it, do one item."""
    # Ctrl-C is for the parent, which takes its workers with it: they inherit what is blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_work, item)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(function: Callable[[Any], Any]) -> None:
    """Prepare this worker."""
    global _function
    _function = function
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _work(item: Any) -> Any:
    return _function(item)
