"""An HTTP client that costs next to nothing, so that the servers are what is measured.

Requests are whole bytes before the clock starts; of an answer only the status and the length
are read. One thread drives all connections, since threads of Python would wait for each other.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from demand.errors import ServingError

_ANSWER_S = 60.0
_PART = 1 << 18
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class Target:
    """A server, and the requests that it is sent in turn.

    Parameters
    ----------
    name
        As reports show it.
    address
        Root of its URLs.
    requests
        Whole HTTP requests, see :func:`post`.
    """

    name: str
    address: str
    requests: Sequence[bytes]


def post(address: str, path: str, value: object) -> bytes:
    """Return the bytes of a request that posts ``value`` as JSON over a kept connection."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Parameters
    ----------
    status
        Of HTTP.
    head
        Status line and headers, in small letters.
    body
        What follows them.
    """

    status: int
    head: bytes
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header, named in small letters, or None."""
        _, found, rest = self.head.partition(b"\r\n" + name + b":")
        return rest.partition(b"\r\n")[0].strip() if found else None


@dataclass
class Incoming:
    """The bytes of one answer, as far as they have come."""

    content: bytearray = field(default_factory=bytearray)

    def take(self, part: bytes) -> bytes | None:
        """Add a part; return the answer's body once it is whole.

        Raises
        ------
        ServingError
            The answer is not 200, has no length, or ended half-way.
        """
        answer = self.take_any(part)
        if answer is None:
            return None
        if answer.status != 200:
            said = answer.body[:300].decode("utf-8", "replace")
            raise ServingError(f"answered {answer.head[:15].decode('latin-1')}: {said}")
        return answer.body

    def take_any(self, part: bytes) -> Answer | None:
        """Add a part; return the answer, whatever its status, once it is whole.

        Raises
        ------
        ServingError
            The answer has no length, or ended half-way.
        """
        if not part:
            raise ServingError("the server closed a kept connection")
        self.content += part
        end = self.content.find(_END_OF_HEAD)
        if end < 0:
            return None
        start = end + len(_END_OF_HEAD)
        head = bytes(self.content[:end]).lower()
        whole = start + _length(head)
        if len(self.content) < whole:
            return None
        body = bytes(self.content[start:whole])
        self.content.clear()
        return Answer(int(head.split(b" ", 2)[1]), head, body)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise ServingError("the answer does not say its length")


@contextlib.contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    """Open a connection to a server."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), timeout=_ANSWER_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def ask(connection: socket.socket, request: bytes) -> bytes:
    """Send a request and return the body of its answer.

    Raises
    ------
    ServingError
        See :meth:`Incoming.take`.
    """
    connection.sendall(request)
    incoming = Incoming()
    while (body := incoming.take(connection.recv(_PART))) is None:
        pass
    return body


def latencies(target: Target, seconds: float) -> list[float]:
    """Ask one request after the other over a kept connection; return the seconds of each."""
    found: list[float] = []
    with connected(target.address) as connection:
        # The first one makes the connection's thread, which is no request's cost.
        ask(connection, target.requests[0])
        until = time.perf_counter() + seconds
        while not found or time.perf_counter() < until:
            request = target.requests[len(found) % len(target.requests)]
            begun = time.perf_counter()
            ask(connection, request)
            found.append(time.perf_counter() - begun)
    return found


def requests_per_second(target: Target, connections: int, seconds: float) -> float:
    """Keep ``connections`` busy, each with one request at a time; return answers per second."""
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(connections):
            connection = stack.enter_context(connected(target.address))
            selector.register(connection, selectors.EVENT_READ, Incoming())
        sent = answered = 0
        started = time.perf_counter()
        until = started + seconds
        for key in list(selector.get_map().values()):
            _send(key.fileobj, target.requests[sent % len(target.requests)])
            sent += 1
        while answered < sent:
            ready = selector.select(_ANSWER_S)
            if not ready:
                raise ServingError(f"{target.name} was silent for {_ANSWER_S:g} s")
            for key, _ in ready:
                if key.data.take(key.fileobj.recv(_PART)) is None:  # type: ignore[union-attr]
                    continue
                answered += 1
                if time.perf_counter() < until:
                    _send(key.fileobj, target.requests[sent % len(target.requests)])
                    sent += 1
        return answered / (time.perf_counter() - started)


def _send(connection: object, request: bytes) -> None:
    assert isinstance(connection, socket.socket)
    connection.sendall(request)
