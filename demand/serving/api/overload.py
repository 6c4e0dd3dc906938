"""Saying no at once, instead of letting everybody wait."""

from __future__ import annotations

from prometheus_client import Gauge


class Admission:
    """Lets so many requests in at a time, and refuses the others without waiting.

    Of one event loop: whoever calls it from two threads is counted wrongly.

    Parameters
    ----------
    limit
        Requests that may be answered at the same time.
    in_flight
        Tells how many are.
    """

    def __init__(self, limit: int, in_flight: Gauge) -> None:
        self._free = limit
        self._in_flight = in_flight

    def enter(self) -> bool:
        """Take one of the places, or return False: all are taken."""
        if self._free == 0:
            return False
        self._free -= 1
        self._in_flight.inc()
        return True

    def leave(self) -> None:
        """Give the place back; whoever entered must."""
        self._in_flight.dec()
        self._free += 1


class Room:
    """Memory for bodies that are still coming.

    Parameters
    ----------
    size
        Bytes, of all of them together.
    """

    def __init__(self, size: int) -> None:
        self._free = size

    def take(self, size: int) -> bool:
        """Take so many bytes, or return False: they are not there."""
        if size > self._free:
            return False
        self._free -= size
        return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._free += size
