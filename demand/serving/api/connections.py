"""A client's connection, taught that a request which stops coming has an end."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from demand.serving.api.problems import Problem, as_bytes

_HEAD_BYTES = 2**16
_HEAD_S, _MESSAGE_S = 30.0, 150.0
# How long a body may go on coming that nobody reads any more.
_DISCARD_S = 5.0
# How long a client may not read what it is sent.
_UNREAD_S = 30.0
_LOOK_S = 5.0


class ImpatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on the head of a request and on the client's time.

    By itself uvicorn lets a client hold a connection, and fill memory with a head, for as
    long as it likes. One timer a connection looks every some seconds: less than a timer a
    request, and nobody minds a deadline that comes late by seconds.
    """

    def connection_made(self, transport: Any) -> None:
        """Begin to look."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._due: float | None = self.loop.time() + _HEAD_S
        self._unread, self._unread_since = 0, 0.0
        self._looking = self.loop.call_later(_LOOK_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self._looking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._due is None:
            self._due = self.loop.time() + _HEAD_S
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
            self._refuse(Problem(431, f"the headers are over {_HEAD_BYTES:,} bytes"))

    def on_message_begin(self) -> None:
        """Expect a head."""
        super().on_message_begin()
        self._due = self.loop.time() + _HEAD_S

    def on_headers_complete(self) -> None:
        """Expect a body."""
        super().on_headers_complete()
        self._due = self.loop.time() + _MESSAGE_S

    def on_body(self, body: bytes) -> None:
        """Take a part of it."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect nothing."""
        super().on_message_complete()
        self._head_bytes = 0
        self._due = None

    def on_response_complete(self) -> None:
        """Let a body that was refused come to its end soon."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and self._due is not None:
            self._due = min(self._due, self.loop.time() + _DISCARD_S)

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, as a problem in JSON."""
        self._refuse(Problem(400, f"{msg.rstrip('.')}: this server speaks HTTP/1.1"))

    def _refuse(self, problem: Problem) -> None:
        self.transport.write(as_bytes(problem))
        self.transport.close()

    def _look(self) -> None:
        now = self.loop.time()
        unread = self.transport.get_write_buffer_size()
        if unread != self._unread:
            self._unread, self._unread_since = unread, now
        late = self._due is not None and now > self._due
        if late or (unread and now > self._unread_since + _UNREAD_S):
            self.transport.abort()
            return
        self._looking = self.loop.call_later(_LOOK_S, self._look)
