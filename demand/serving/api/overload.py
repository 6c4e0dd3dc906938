"""Saying no at once, instead of letting everybody wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from demand.serving.api.problems import Problem


class Admission:
    """Lets so many requests in at a time, and refuses the others without waiting.

    Parameters
    ----------
    limit
        Requests that may be answered at the same time.
    in_flight
        Tells how many are.
    """

    def __init__(self, limit: int, in_flight: Gauge) -> None:
        self._free = threading.BoundedSemaphore(limit)
        self._in_flight = in_flight

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
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()
            self._free.release()
