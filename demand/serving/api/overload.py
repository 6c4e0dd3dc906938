"""Saying no at once, instead of letting everybody wait."""

from __future__ import annotations

import threading

from prometheus_client import Gauge


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

    def enter(self) -> bool:
        """Take one of the places, or return False: all are taken."""
        if not self._free.acquire(blocking=False):
            return False
        self._in_flight.inc()
        return True

    def leave(self) -> None:
        """Give the place back; whoever entered must."""
        self._in_flight.dec()
        self._free.release()
