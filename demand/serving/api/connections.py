"""A client's connection, taught that a request which stops coming has an end."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from demand.serving.api.problems import Problem, as_bytes

# Where a request finds all that are being answered in this process, in the state of its scope.
REQUESTS = "requests"

_HEAD_BYTES = 2**16
_OF_A_BODY = {b"content-length", b"transfer-encoding"}
# Requests that may be sent before the one before them is answered.
_AHEAD = 100
_HEAD_S, _MESSAGE_S = 30.0, 120.0
# How long nothing may come of a request that has begun.
_SILENT_S = 30.0
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
        self.app_state[REQUESTS] = self.tasks
        self._head_bytes = 0
        self._begun = False
        self._heard = self.loop.time()
        self._due: float | None = self._heard + _HEAD_S
        self._unread, self._unread_since = 0, 0.0
        self._looking = self.loop.call_later(_LOOK_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self._looking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._heard = self.loop.time()
        if self._due is None:
            self._due = self._heard + _HEAD_S
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
            self._refuse(Problem(431, f"the headers are over {_HEAD_BYTES:,} bytes"))

    def on_message_begin(self) -> None:
        """Expect a head."""
        super().on_message_begin()
        self._begun = True
        self._due = self._heard + _HEAD_S

    def on_headers_complete(self) -> None:
        """Expect a body.

        Raises
        ------
        ValueError
            Too many requests were sent ahead. The parser makes of it that this is no HTTP.
        """
        if len(self.pipeline) >= _AHEAD:
            raise ValueError("too many requests were sent ahead")
        super().on_headers_complete()
        self.headers = []  # what may follow a body in chunks is no header of the request
        self._due = self._heard + _MESSAGE_S

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio listens to what it returns
        """Answer what came whole, although nothing more will come."""
        if not self._is_answering():
            return False
        self.cycle.keep_alive = False
        return True

    def on_body(self, body: bytes) -> None:
        """Take a part of it."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect nothing."""
        super().on_message_complete()
        self._head_bytes = 0
        self._begun = False
        self._due = None

    def on_response_complete(self) -> None:
        """Let a body that was refused come to its end soon."""
        super().on_response_complete()
        if self._due is not None and self._is_refused():
            self._due = min(self._due, self.loop.time() + _DISCARD_S)

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, as a problem in JSON."""
        self._refuse(Problem(400, f"{msg.rstrip('.')}: this server speaks HTTP/1.1"))

    def _unsupported_upgrade_warning(self) -> None:
        """Answer in HTTP/1.1, as one may; but the parser reads no body after such a head."""
        self.cycle.keep_alive = False
        if {name for name, _ in self.cycle.scope["headers"]} & _OF_A_BODY:
            self.cycle.disconnected = True
            self._refuse(
                Problem(400, "a request with a body cannot ask for an upgrade: leave it out")
            )

    def _is_refused(self) -> bool:
        """Say whether the request that is coming was answered before it was whole."""
        return self.cycle is not None and self.cycle.more_body and self.cycle.response_started

    def _is_answering(self) -> bool:
        """Say whether a request that came before is still to be answered."""
        cycle = self.cycle
        if self.pipeline or cycle is None:
            return bool(self.pipeline)
        return not (cycle.more_body or cycle.response_complete or cycle.disconnected)

    def _refuse(self, problem: Problem) -> None:
        """End the connection; say why where it cannot be taken for another answer."""
        if not self._is_answering():
            self.transport.write(as_bytes(problem))
        self.transport.close()

    def _look(self) -> None:
        now = self.loop.time()
        unread = self.transport.get_write_buffer_size()
        if unread != self._unread:
            self._unread, self._unread_since = unread, now
        if unread and now > self._unread_since + _UNREAD_S:
            self.transport.abort()
        elif self._due is not None and now > min(self._due, self._heard + _SILENT_S):
            self._end_late()
        if not self.transport.is_closing():
            self._looking = self.loop.call_later(_LOOK_S, self._look)

    def _end_late(self) -> None:
        if self._is_answering():
            return  # answers come in the order of their requests
        if self._begun and not self._is_refused():
            self._refuse(Problem(408, "the request stopped coming"))
        else:
            self.transport.abort()
