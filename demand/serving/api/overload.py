"""Saying no at once, instead of letting everybody wait."""

from __future__ import annotations

import threading

from prometheus_client import Gauge


class Turn:
    """Lets one thread of a process at a time find out whether its request is let in.

    Hundreds of threads that all want the interpreter for a tenth of a millisecond wait for
    each other at every step, and keep it from the few that answer. A thread keeps its turn
    until its request is let in, is refused, or does not come on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own = threading.local()

    def take(self) -> None:
        """Wait for the turn."""
        self._lock.acquire()
        self._own.held = True

    def give(self) -> None:
        """Give it on, if this thread has it."""
        if getattr(self._own, "held", False):
            self._own.held = False
            self._lock.release()


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


TURN = Turn()  # of this process
