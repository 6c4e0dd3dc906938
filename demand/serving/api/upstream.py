"""The model server behind the API: found anew when it has moved, asked again when it fell."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from demand.errors import ServingError
from demand.serving.server import active
from demand.state import Home

_PATIENCE_S = 30.0
_PAUSE_S = 0.05
_ANSWER_S = 60.0
# Hop-by-hop headers, and those that this server sets itself, stay behind.
_PASSED_ON = ("content-type", "demand-model-version")


@dataclass(frozen=True)
class Answer:
    """What the model server said."""

    status: int
    headers: dict[str, str]
    body: bytes


class ModelServerUpstream:
    """Passes requests on over kept connections, one a thread.

    A prediction changes nothing, so that a request that got no answer can be sent again:
    to the server that has taken over meanwhile, or to the same one once it is back.

    Parameters
    ----------
    address
        Called at every attempt; returns the root of its URLs, or None where none serves.
    patience_s
        How long a request waits for a server that can be reached.
    """

    def __init__(
        self, address: Callable[[], str | None], *, patience_s: float = _PATIENCE_S
    ) -> None:
        self._address = address
        self._patience_s = patience_s
        self._kept = threading.local()

    def ask(self, method: str, path: str, body: bytes | None, content_type: str) -> Answer:
        """Return the model server's answer.

        Raises
        ------
        ServingError
            None could be reached in time.
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            why = "no model server is running: run `demand serve`"
            address = self._address()
            if address is not None:
                try:
                    return self._once(address, method, path, body, content_type)
                except TimeoutError:
                    self._forget()
                    raise ServingError(f"no answer within {_ANSWER_S:g} s") from None
                except (OSError, http.client.HTTPException):
                    why = "the model server does not answer"
                    self._forget()
            if time.monotonic() >= deadline:
                raise ServingError(why)
            time.sleep(_PAUSE_S)

    def _once(
        self, address: str, method: str, path: str, body: bytes | None, content_type: str
    ) -> Answer:
        connection = self._connection(address)
        headers = {"Content-Type": content_type} if content_type else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        kept = {k: v for k, v in answer.getheaders() if k.lower() in _PASSED_ON}
        return Answer(answer.status, kept, content)

    def _connection(self, address: str) -> http.client.HTTPConnection:
        kept: tuple[str, http.client.HTTPConnection] | None = getattr(self._kept, "last", None)
        if kept is not None and kept[0] == address:
            return kept[1]
        self._forget()
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=_ANSWER_S)
        self._kept.last = address, connection
        return connection

    def _forget(self) -> None:
        kept = getattr(self._kept, "last", None)
        self._kept.last = None
        if kept is not None:
            with contextlib.suppress(OSError):
                kept[1].close()


def active_address(place: Home) -> Callable[[], str | None]:
    """Return what tells the address of the deployment on record, read where it changed."""
    record = place.serving / "active.json"
    seen: tuple[tuple[int, int], str | None] | None = None

    def address() -> str | None:
        nonlocal seen
        try:
            stat = record.stat()
        except OSError:
            return None
        stamp = stat.st_mtime_ns, stat.st_ino
        if seen is None or seen[0] != stamp:
            try:
                deployment = active(place)
            except ServingError:
                return None
            seen = stamp, deployment.server.address if deployment else None
        return seen[1]

    return address
