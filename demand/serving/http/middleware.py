"""What every request passes before an application sees it: its host, its origin, its body."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.exceptions import HTTPException

from demand.errors import ConfigError
from demand.production_log.entries import REQUEST_ID

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Of every answer of a model server: the version of its model.
VERSION_HEADER = "demand-model-version"
# Of a request: what names it in logs; and that a check asks, no seller, all of it or all but
# the rows that stand after "except=".
REQUEST_ID_HEADER, PROBE_HEADER = "x-request-id", "demand-probe"
PROBE_ALL, PROBE_EXCEPT = "all", "except="
RETRY_AFTER_S = 1
TOO_MANY = "too many requests at a time: try again in a second"
# Parts in which an answer is handed on: one at a time, so that a client who does not read shows.
_PART_BYTES = 2**18
_GONE: dict[str, Any] = {"type": "http.disconnect"}
_ROW = re.compile(r"[0-9]{1,9}")
_REQUEST_ID = re.compile(REQUEST_ID)
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?", re.ASCII)

Headers = list[tuple[bytes, bytes]]
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Timeouts:
    """How long a client may take, in seconds.

    The next part of a body has ``silent_s`` to come, a whole one ``body_s``; 408 then. One that
    has not read some 256 KB more of its answer within ``unread_s`` is let go.
    """

    silent_s: float = 30.0
    body_s: float = 120.0
    unread_s: float = 30.0


class Hosts:
    """Names by which a server may be asked, and sites whose pages may ask it.

    A server on loopback answers to the names of loopback alone: a page of another site whose
    name was made to lead here (DNS rebinding) would ask under that name. Where it is opened to
    a network, it also answers to addresses and the name of this machine, which nobody can rebind.

    It is bound to where it listens, and may have further names, such as that of a reverse proxy;
    origins are sites besides its own, such as ``https://example.org``. ConfigError: one of the
    names is none.
    """

    def __init__(self, bound: str, named: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        for name in named:
            if _name(name) is None:
                raise ConfigError(f"{name!r} is no name of a host such as api.example.org")
        self._is_open = not is_loopback(bound)
        own = (socket.gethostname().lower(),) if self._is_open else ()
        self._names = frozenset(("localhost", bound.lower(), *own, *map(_name, named)))
        self._origins = origins

    def knows(self, host: str) -> bool:
        """Say whether the header Host is one of ours."""
        name = _name(host)
        if name is None or name in self._names:
            return name is not None
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._is_open

    def trusts(self, origin: str, host: str) -> bool:
        """Say whether the site in the header Origin may ask the one in Host."""
        return origin in self._origins or origin.partition("://")[2].lower() == host.lower()


def _name(host: str) -> str | None:
    """Return the name or address in a header Host, None where it is not written as one."""
    match = _HOST.fullmatch(host.lower())
    return None if match is None else match[1] or match[2]


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine, asked from itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


# Status and reason of a refusal, into the headers and the body of its answer.
Refusal = Callable[[int, str], tuple[Headers, bytes]]


class RequestLimits:
    """ASGI middleware that refuses foreign hosts and origins, and bodies without end.

    Where a body is refused, the application hears that the client has gone. How large one may be,
    in bytes, is said of the scope of each request, 413 beyond; all that are on their way may take
    ``together_bytes``, 503 beyond. The answer of a refusal is made of its status and reason.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        body_bytes: Callable[[Scope], int],
        refusal: Refusal,
        together_bytes: int,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._app, self._hosts, self._body_bytes = app, hosts, body_bytes
        self._refusal, self._timeouts = refusal, timeouts or Timeouts()
        self.free = together_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._body_bytes(scope)
        exchange = _Exchange(receive, send, limit, self, self._timeouts)
        exchange.refused = self._why_not(scope["headers"], limit)
        if exchange.refused is None:
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except Exception:
                if exchange.refused is None and not exchange.given_up:
                    raise
            finally:
                self.free += exchange.taken
        if exchange.refused is not None and not exchange.started:
            status = exchange.refused.status_code
            headers, content = self._refusal(status, exchange.refused.detail)
            await send_answer(send, status, headers, content)

    def _why_not(self, headers: Sequence[tuple[bytes, bytes]], limit: int) -> HTTPException | None:
        if sum(name == b"host" for name, _ in headers) != 1:
            return HTTPException(400, "a request has one header Host")
        values = dict(headers)
        host = values[b"host"].decode("latin-1")
        if not self._hosts.knows(host):
            told = f"this server does not answer to the host {host[:100]!r}: ask it by its"
            return HTTPException(400, f"{told} address, or start it with --allow-host")
        origin = values.get(b"origin", b"").decode("latin-1")
        if origin and not self._hosts.trusts(origin, host):
            return HTTPException(403, f"pages of {origin[:100]!r} may not ask this server")
        length = values.get(b"content-length", b"0")
        if not length.isdigit():
            return HTTPException(400, "Content-Length is no number")
        return _too_large(limit) if len(length) > 18 or int(length) > limit else None


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the body is over {limit:,} bytes")


class _Exchange:
    """A request whose body may be refused while it comes, and what is answered to it."""

    def __init__(
        self, receive: Receive, send: Send, limit: int, limits: RequestLimits, timeouts: Timeouts
    ) -> None:
        self._receive, self._send, self._limits = receive, send, limits
        self._limit, self._timeouts = limit, timeouts
        self._whole = self._streaming = self.started = self.given_up = False
        self._deadline = asyncio.get_running_loop().time() + timeouts.body_s
        self.taken = 0
        self.refused: HTTPException | None = None

    async def receive(self) -> Message:
        """Return the next part of the body; once it is refused, that the client has gone."""
        if self._whole:
            return await self._receive()
        if self.refused is not None:
            return _GONE
        silent_until = asyncio.get_running_loop().time() + self._timeouts.silent_s
        try:
            async with asyncio.timeout_at(min(self._deadline, silent_until)):
                message = await self._receive()
        except TimeoutError:
            self.refused = HTTPException(408, "the request stopped coming")
            return _GONE
        if message["type"] != "http.request":
            # Unless the client has gone, which hears no answer.
            self.refused = HTTPException(400, "the body broke off, or is no HTTP")
            return message
        size = len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self.taken + size > self._limit:
            self.refused = _too_large(self._limit)
        elif size > self._limits.free:
            self.refused = HTTPException(503, TOO_MANY)
        if self.refused is not None:
            return _GONE
        self._limits.free -= size
        self.taken += size
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, unless the body was refused before its first.

        OSError, as ASGI wants it: the client does not read it and was let go.
        """
        if self.refused is not None and not self.started:
            return
        content = message.get("body", b"")
        whole = not message.get("more_body", False)
        if not self.started or (whole and len(content) <= _PART_BYTES and not self._streaming):
            # What is small is taken at once.
            self.started = True
            await self._send(message)
            return
        self._streaming = True
        for first in range(0, max(1, len(content)), _PART_BYTES):
            more = not whole or first + _PART_BYTES < len(content)
            part = {**message, "body": content[first : first + _PART_BYTES], "more_body": more}
            try:
                async with asyncio.timeout(self._timeouts.unread_s):
                    await self._send(part)
            except TimeoutError:
                self.given_up = True
                raise OSError("the client does not read its answer") from None


def request_id(given: str) -> str:
    """Return the id that the client has given a request where it is harmless, else a new one."""
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def probe_rows(header: str | None, ads: int) -> Collection[int]:
    """Return the rows of n ads that no seller asked about, by the header of their request."""
    if header is None:
        return ()
    asked = set(map(int, _ROW.findall(header.partition(PROBE_EXCEPT)[2])))
    return [row for row in range(ads) if row not in asked]


async def whole_body(receive: Receive) -> bytes:
    """Return the body of a request, within the limits; HTTPException (400): it ended too early."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the request ended before its body did")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send an answer that is whole, with its length, and when to ask again after a 503."""
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Admission:
    """So many threads of a name that answer requests, and how many may have or wait for one."""

    def __init__(self, name: str, threads: int, admitted: int) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._free = admitted

    async def run(self, call: Callable[[], _Found]) -> _Found:
        """Return what a function does in a thread; HTTPException (503): no more are admitted."""
        if self._free == 0:
            raise HTTPException(503, TOO_MANY)
        self._free -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        finally:
            self._free += 1
