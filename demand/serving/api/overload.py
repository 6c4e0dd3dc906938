"""Saying no at once, instead of letting everybody wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from demand.serving.api.problems import Problem


class Admission:
    """Lets so many requests in at a time, and refuses the others without waiting.

    Parameters
    ----------
    limit
        Requests that may be answered at the same time.
    """

    def __init__(self, limit: int) -> None:
        self._free = threading.BoundedSemaphore(limit)
        self._lock = threading.Lock()
        self.in_flight = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold one of the places for the block.

        Raises
        ------
        Problem
            503 with Retry-After: all are taken.
        """
        if not self._free.acquire(blocking=False):
            raise Problem(503, "too many requests at a time: try again in a second")
        with self._lock:
            self.in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1
            self._free.release()
