"""What stands before Flask: it reads requests, lets them in or refuses them, all on one event loop.

A thread for each of a thousand connections would spend its time waiting for the interpreter.
On a loop, a request that is refused costs little, and one of a few ads is answered faster in
place than it is handed to a thread and back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sized
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from prometheus_client import Gauge

from demand.serving.api.connections import REQUESTS
from demand.serving.api.overload import Admission, Room
from demand.serving.api.settings import ApiSettings
from demand.serving.api.surroundings import FULL, STARTED, has_token
from demand.serving.api.wsgi import Environ, Wsgi, WsgiAnswer, environment

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

# A body of so many bytes is answered in some milliseconds: a dozen ads with long texts, or
# hundreds that are hardly more than a category.
_SMALL = 2**14
# Batches that are computed at a time: more would only take the interpreter from each other.
_BATCHES = 2
# Bodies of the largest size that may be on their way at a time.
_COMING = 8


class _GoneError(Exception):
    """The client went away before its request was whole."""


class Front:
    """ASGI application in front of the API's WSGI one.

    Parameters
    ----------
    app
        What answers, see :class:`demand.serving.api.surroundings.Surroundings`: it refuses
        what is marked as too much.
    settings
        See :class:`demand.serving.api.settings.ApiSettings`.
    in_flight
        Tells how many requests are let in.
    """

    def __init__(self, app: Wsgi, settings: ApiSettings, in_flight: Gauge) -> None:
        self._app = app
        self._settings = settings
        self._room = Room(_COMING * settings.body_bytes)
        # Apart, so that those who wait for long keep nobody from what takes a moment.
        self._few = Admission(settings.in_flight, in_flight)
        self._long = {
            "/predict": (
                Admission(settings.batches, in_flight),
                ThreadPoolExecutor(_BATCHES, "batch"),
            ),
            "/invocations": (
                Admission(settings.passed_on, in_flight),
                ThreadPoolExecutor(settings.passed_on, "passed-on"),
            ),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        environ = environment(scope)
        environ[STARTED] = time.perf_counter()
        body = _Body(environ, self._settings.body_bytes, self._room)
        try:
            if has_token(environ, self._settings):
                await body.read(receive)
                answer = await self._answer(environ, body.content, scope["state"][REQUESTS])
            else:  # without taking the place of somebody who has it
                answer = WsgiAnswer(self._app, environ, b"")
        except _GoneError:
            return
        finally:
            body.forget()
        start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, environ: Environ, body: bytes, requests: Sized) -> WsgiAnswer:
        path, posted = environ["PATH_INFO"], environ["REQUEST_METHOD"] == "POST"
        if FULL in environ or not posted or path not in self._long:
            return WsgiAnswer(self._app, environ, body)
        limit, threads = self._long[path]
        few = path == "/predict" and len(body) <= _SMALL
        if few:
            limit = self._few
        if not limit.enter():
            environ[FULL] = True
            return WsgiAnswer(self._app, environ, b"")
        try:
            if few:
                if len(requests) > 1:
                    # All that came at the same time are let in or refused, and then answered.
                    await asyncio.sleep(0)
                return WsgiAnswer(self._app, environ, body)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads, WsgiAnswer, self._app, environ, body)
        finally:
            limit.leave()


class _Body:
    """The body of a request, read as far as it may come: Flask refuses what is longer."""

    def __init__(self, environ: Environ, limit: int, room: Room) -> None:
        self.content = b""
        self._environ = environ
        self._limit = limit
        self._room = room
        self._taken = 0

    async def read(self, receive: Receive) -> None:
        """Read it.

        Raises
        ------
        _GoneError
            The connection ended, or was ended since nothing came.
        """
        declared = self._environ.get("CONTENT_LENGTH")
        if declared is not None and int(declared) > self._limit:
            return
        parts, size, more = [], 0, True
        while more and size <= self._limit:
            part, more = _part(await receive())
            parts.append(part)
            size += len(part)
            if more and not self._take(size):
                self._environ[FULL] = True
                return
        self.content = b"".join(parts)
        if size or declared is not None:
            self._environ["CONTENT_LENGTH"] = str(size)

    def _take(self, size: int) -> bool:
        if not self._room.take(size - self._taken):
            return False
        self._taken = size
        return True

    def forget(self) -> None:
        """Give back the memory that it was read into."""
        self._room.give(self._taken)


def _part(message: Message) -> tuple[bytes, bool]:
    """Return a part of a body, and whether more is to come."""
    if message["type"] == "http.disconnect":
        raise _GoneError
    return message["body"], message["more_body"]
