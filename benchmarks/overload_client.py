"""More requests than a server can answer, each sent when it is due, whatever the others wait for.

One thread drives all connections, as in :mod:`benchmarks.serving_client`.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import selectors
import socket
import statistics
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from benchmarks.serving_client import Answer, Incoming, Target, connected
from demand.errors import ServingError

FAILED = 0

_PART = 1 << 16
# A server that is silent for longer is down, not busy.
_PATIENCE_S = 60.0
_PAUSE_S = 0.02
# What is due within it is sent together, so that waiting costs the API no core.
_TICK_S = 0.001
_NORMAL_IN_A_ROW = 5
# Descriptors that are no connections of the load.
_OTHER_FILES = 64


@dataclass(frozen=True)
class Outcome:
    """What became of a request; times are of :func:`time.perf_counter`.

    Parameters
    ----------
    begun, ended
        When it was sent, or its connection begun, and when it was answered or failed.
    status
        Of HTTP; ``FAILED`` where the connection was refused or closed.
    retry_after
        Whether the answer says when to come again.
    """

    begun: float
    ended: float
    status: int
    retry_after: bool

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.begun


@dataclass
class Flood:
    """A load, and what became of its requests.

    Parameters
    ----------
    begun, ended
        When the first request was due, and when no more were sent.
    outcomes
        Of the requests that were sent, in the order of their ends.
    unsent
        Requests that were due while every connection waited for an answer: callers beyond
        the number of connections, of whom the server heard nothing.
    silent
        Requests without an answer a minute after the load.
    normal_again_s
        See :func:`seconds_until_normal`, from the end of the load.
    """

    begun: float = 0.0
    ended: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)
    unsent: int = 0
    silent: int = 0
    normal_again_s: float = float("nan")


class _Connection:
    """A connection with at most one request on its way."""

    __slots__ = ("begun", "incoming", "request", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming = Incoming()
        self.request = b""
        self.begun = 0.0
        # What it says of a connection that cannot be made is heard when it is written to.
        failure = self.socket.connect_ex(address)
        if failure not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(failure, "connect")


class OpenLoop:
    """Sends requests at a rate of its own over many kept connections.

    Parameters
    ----------
    target
        The server, and its requests, sent in turn.
    rate
        Requests per second.
    connections
        At most; fewer where the system allows fewer open files.
    """

    def __init__(self, target: Target, rate: float, connections: int) -> None:
        parts = urlsplit(target.address)
        self._target = target
        self._address = (str(parts.hostname), int(parts.port or 80))
        self._rate = rate
        self.connections = _connections_allowed(connections)
        self._selector = selectors.DefaultSelector()
        self._idle: list[_Connection] = []
        self._waiting: set[_Connection] = set()
        self._flood = Flood()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (*self._idle, *self._waiting):
            connection.socket.close()
        self._selector.close()

    def run(self, seconds: float, normal_s: float) -> Flood:
        """Send for some seconds, then wait for all answers and for a normal latency.

        Parameters
        ----------
        seconds
            Of the load.
        normal_s
            What an answer takes at most without load.
        """
        flood, requests, number = self._flood, self._target.requests, 0
        flood.begun = time.perf_counter()
        flood.ended = flood.begun + seconds
        while (now := time.perf_counter()) < flood.ended:
            while flood.begun + number / self._rate <= now:
                if not self._send(requests[number % len(requests)]):
                    flood.unsent += 1
                number += 1
            due = flood.begun + number / self._rate
            self._hear(max(_TICK_S, due - time.perf_counter()))
        with ThreadPoolExecutor(1) as pool:
            normal = pool.submit(seconds_until_normal, self._target, normal_s, flood.ended)
            while self._waiting and time.perf_counter() < flood.ended + _PATIENCE_S:
                self._hear(_PAUSE_S)
            flood.silent = len(self._waiting)
            flood.normal_again_s = normal.result()
        return flood

    def _send(self, request: bytes) -> bool:
        """Send a request over an idle connection, or a new one; say whether there was any."""
        if self._idle:
            connection = self._idle.pop()
            connection.begun = time.perf_counter()
            self._waiting.add(connection)
            with contextlib.suppress(OSError):  # closed meanwhile, which is read next
                connection.socket.sendall(request)
            return True
        if len(self._waiting) >= self.connections:
            return False
        begun = time.perf_counter()
        try:
            connection = _Connection(self._address)
        except OSError:
            self._flood.outcomes.append(Outcome(begun, time.perf_counter(), FAILED, False))
            return True
        connection.begun, connection.request = begun, request
        self._waiting.add(connection)
        self._selector.register(connection.socket, selectors.EVENT_WRITE, connection)
        return True

    def _hear(self, timeout_s: float) -> None:
        """Wait for connections that are made, and for answers."""
        for key, events in self._selector.select(timeout_s):
            connection: _Connection = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    connection.socket.sendall(connection.request)
                    self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
                    continue
                answer = connection.incoming.take_any(connection.socket.recv(_PART))
            except (OSError, ServingError):
                self._close(connection)
                continue
            if answer is not None:
                self._note(connection, answer)

    def _note(self, connection: _Connection, answer: Answer) -> None:
        self._waiting.discard(connection)
        self._flood.outcomes.append(_outcome(connection.begun, answer))
        if answer.header(b"connection") == b"close":
            self._selector.unregister(connection.socket)
            connection.socket.close()
        else:
            self._idle.append(connection)

    def _close(self, connection: _Connection) -> None:
        """Take note of a connection's end; a kept one that nobody waits for may end."""
        self._selector.unregister(connection.socket)
        connection.socket.close()
        if connection in self._waiting:
            self._waiting.discard(connection)
            failed = Outcome(connection.begun, time.perf_counter(), FAILED, False)
            self._flood.outcomes.append(failed)
        else:
            self._idle.remove(connection)


def quiet_latency(target: Target, times: int = 50) -> float:
    """Return the median seconds of an answer without load, asked as :func:`seconds_until_normal`.

    Raises
    ------
    ServingError
        Half of the requests or more were not answered with 200.
    """
    taken = [_asked_anew(target) for _ in range(times)]
    good = [each.seconds for each in taken if each.status == 200]
    if len(good) <= times / 2:
        raise ServingError(f"{target.name} answers {len(good)} of {times} requests without load")
    return statistics.median(good)


def seconds_until_normal(target: Target, normal_s: float, since: float) -> float:
    """Ask one request after the other until the answers are as fast as without load.

    Parameters
    ----------
    target
        Its first request is asked, over a new connection each time.
    normal_s, since
        What an answer takes at most without load; from when is counted.

    Returns
    -------
    float
        Seconds until the first of five answers in a row that are all 200 and whose median is
        at most ``normal_s``; NaN where there are none within a minute.
    """
    row: deque[Outcome] = deque(maxlen=_NORMAL_IN_A_ROW)
    while time.perf_counter() < since + _PATIENCE_S:
        row.append(_asked_anew(target))
        if row[-1].status != 200:
            row.clear()
        if len(row) == row.maxlen and statistics.median(e.seconds for e in row) <= normal_s:
            return row[0].ended - since
        time.sleep(_PAUSE_S)
    return float("nan")


def _asked_anew(target: Target) -> Outcome:
    """Ask over a new connection, as somebody does who comes now."""
    begun = time.perf_counter()
    try:
        with connected(target.address) as connection:
            connection.sendall(target.requests[0])
            return _outcome(begun, _whole(connection))
    except (OSError, ServingError):
        return Outcome(begun, time.perf_counter(), FAILED, False)


def _whole(connection: socket.socket) -> Answer:
    incoming = Incoming()
    while (answer := incoming.take_any(connection.recv(_PART))) is None:
        pass
    return answer


def _outcome(begun: float, answer: Answer) -> Outcome:
    retry = answer.header(b"retry-after") is not None
    return Outcome(begun, time.perf_counter(), answer.status, retry)


def _connections_allowed(wanted: int) -> int:
    """Return how many may be open, after asking the system for as many as are wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted + _OTHER_FILES
    files = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, min(wanted, files - _OTHER_FILES))
