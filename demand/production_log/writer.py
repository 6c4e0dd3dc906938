"""The log's end in a server: a bounded queue, and a thread that empties it.

A request only leaves references to what it has; entries are made in the thread, some at a time.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from demand.production_log.entries import Answered, Columns, entries_of
from demand.production_log.shadow import Shadow
from demand.schema.arrays import Floats
from demand.schema.records import Typed

# What a crash may lose, besides what a full queue has dropped.
_FLUSH_S = 0.2
# Ads of which entries are made at once, and how long others then have the interpreter.
_CHUNK_ADS, _PAUSE_S = 32, 0.001
_log = logging.getLogger("demand.production_log")


class Sink(Protocol):
    """Where entries are kept."""

    def salt(self) -> bytes:
        """Return what sellers are hashed with."""

    def write(self, entries: Columns) -> None:
        """Keep all entries, or none and raise."""

    def close(self) -> None:
        """Let go of what is held."""


class LogWriter:
    """Takes what was answered from any thread of a worker, and never lets it wait.

    At most ``queue_ads`` ads wait, and those of one more request; what comes then, and what the
    sink refuses, is dropped. ``count`` is told numbers of answers: written, dropped; those of a
    ``shadow`` do not count. That the sink refuses is said once, and once more when it takes entries
    again. The thread starts with the first request, so that a writer may be made before a server
    forks; it ends, with the queue empty, when the process does or the writer is closed.
    """

    def __init__(
        self,
        sink: Sink,
        queue_ads: int,
        count: Callable[[int, int], None] | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        self._sink, self._queue_ads, self._count = sink, queue_ads, count or _take_no_note
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._queue: list[Answered] = []
        self._waiting = 0  # ads in the queue
        self._thread: threading.Thread | None = None
        self._shadow = shadow
        self._refused = 0  # entries since the sink took any

    def add(
        self,
        request_id: str,
        model_version: str,
        ads: Typed,
        probabilities: Floats,
        probes: Collection[int] = (),
        *,
        interval: tuple[Floats, Floats] | None = None,
        unknown: Mapping[int, list[str]] | None = None,
    ) -> None:
        """Log the answer to n ads; the arrays, shape (n,), must not change any more.

        Probes are the rows that no seller asked about; what else see :class:`Answered`.
        """
        told = (request_id, model_version, ads, probabilities, probes, interval, unknown or {})
        answered = Answered(time.time(), *told)
        with self._lock:
            full = self._waiting >= self._queue_ads
            if not full:
                self._queue.append(answered)
                self._waiting += len(probabilities)
            if self._thread is None:
                self._start()
        if full:
            self._count(0, len(probabilities))

    def close(self) -> None:
        """Write what waits, and end."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self._sink.close()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="production-log")
        # Where there may be no more threads now, the next request tries again.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        # Python waits for this thread at its end, and this one sees that the main one is done.
        while threading.main_thread().is_alive() and not self._closing.wait(_FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            taken, self._queue = self._queue, []
        # What was written is let go of at once.
        taken.reverse()
        while taken:
            chunk, ads = [], 0
            while taken and ads < _CHUNK_ADS:
                chunk.append(taken.pop())
                ads += len(chunk[-1].probabilities)
            self._write(chunk, ads)
            with self._lock:
                self._waiting -= ads
            time.sleep(_PAUSE_S)

    def _write(self, chunk: list[Answered], ads: int) -> None:
        try:
            again = [] if self._shadow is None else self._shadow.answers(chunk)
            self._sink.write(entries_of([*chunk, *again], self._sink.salt()))
        except Exception as error:  # whatever it is, answers go on and so does this thread
            if not self._refused:
                _log.warning("predictions are answered but not logged: %s", _why(error))
            self._refused += ads
            self._count(0, ads)
            return
        if self._refused:
            _log.warning("predictions are logged again; %d were not", self._refused)
        self._refused = 0
        self._count(ads, 0)


def _take_no_note(*_: int) -> None:
    """Count nothing."""


def _why(error: Exception) -> str:
    """Return what happened in a line: a database tells more in the lines after it."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
