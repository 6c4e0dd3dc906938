"""What of a visitor's requests Gradio hears, and what of its answers the visitor does.

Gradio answers some sixty routes, of which this page needs a dozen. In place of any value it
takes the path or the URL of a file, and fetches it; what it cannot take, it names together with
the paths of this machine. So a request that the page would not send is refused before Gradio
hears of it, and an error of Gradio's leaves without its words.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field
from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from demand.page.uploads import FILE_MB_MAX
from demand.page.views import LANGUAGES
from demand.serving.http.middleware import whole_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger("demand.page")
_API = "/gradio_api"
_FILE, _STREAM, _UPLOAD = f"{_API}/file=", f"{_API}/queue/data", f"{_API}/upload"
_READ = ("/", "/health", "/config", "/theme.css", "/favicon.ico", f"{_API}/app_id", _STREAM)
_READ_BELOW = ("/assets/", "/static/", f"{_API}/heartbeat/")
# An upload's body is its file and some lines around it; all others are a form, with texts of
# up to 20,000 characters.
UPLOAD_BYTES, FORM_BYTES = (FILE_MB_MAX + 1) * 2**20, 2**20
# No more is uploaded where they take more bytes than this, those that are on their way included.
FOLDER_MAX = 256 * 2**20
_NOT_OURS = "this is nothing that the page would send"
# Of more sessions than this, the one that began first is not streamed to any more.
_SESSIONS_MAX = 10_000
# Gradio's own scripts are inline and compile small functions; nothing may come from, or go
# to, another host.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
# What an event takes as one of its inputs: nothing or a file that was uploaded; one of the
# languages; any text, number or truth value.
Input = Literal["file", "language", "value"]


class _Sent(BaseModel):
    model_config = ConfigDict(strict=True)


_Plain = str | bool | int | float | None
_Number = Annotated[int, Field(ge=0, lt=2**31)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]{1,40}$")]


class _File(_Sent):
    path: str
    orig_name: str | None = None


class _Event(_Sent):
    data: list[_Plain | _File]
    fn_index: _Number
    session_hash: _Name
    trigger_id: _Number | None = None
    event_data: dict[str, _Plain] | None = None


class _Reset(_Sent):
    event_id: _Name


class _Cancel(_Reset):
    session_hash: _Name
    fn_index: _Number


_BODIES: Mapping[str, type[_Sent]] = {
    f"{_API}/queue/join": _Event,
    f"{_API}/run/predict": _Event,
    f"{_API}/cancel": _Cancel,
    f"{_API}/reset": _Reset,
}


def body_limit(scope: Scope) -> int:
    """Return the largest body of a request, in bytes."""
    if scope["method"] != "POST":
        return 0
    return UPLOAD_BYTES if scope["path"] == _UPLOAD else FORM_BYTES


class Guard:
    """ASGI middleware around Gradio's application.

    No other files are read or served than those of visitors in the folder; of each of the page's
    events, by its number, the inputs are known.
    """

    def __init__(self, app: ASGIApp, folder: Path, events: Mapping[int, Sequence[Input]]) -> None:
        self._app, self._folder, self._events = app, folder.resolve(), events
        # Bytes of uploads that are on their way.
        self._coming = 0
        self._sessions: OrderedDict[str, None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _Answer(scope, receive, send))

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        begun = time.monotonic()
        # What Gradio compresses, it loses where a server may send it from the disk by itself.
        scope = {**scope, "extensions": {}}
        try:
            if scope["method"] == "POST" and scope["path"] == _UPLOAD:
                async with self._room(Headers(scope=scope), receive) as bounded:
                    await self._app(scope, bounded, answer.send)
            else:
                await self._app(*await self._admitted(scope, receive), answer.send)
        except HTTPException as refusal:
            await answer.refuse(refusal.status_code, refusal.detail)
        except Exception as error:
            # What it says may name paths, and what it was called with.
            _log.warning("%s ended with %s", scope["path"][:100], type(error).__name__)
            await answer.refuse(500, HTTPStatus(500).phrase)
        path = scope["path"] if scope["path"] in (*_READ, *_BODIES, _UPLOAD) else "other"
        seconds = time.monotonic() - begun
        _log.info("%s %s %s %.0f ms", scope["method"], path, answer.status, seconds * 1000)

    @contextlib.asynccontextmanager
    async def _room(self, headers: Headers, receive: Receive) -> AsyncIterator[Receive]:
        """Keep room for an upload before it comes, and yield what receives it.

        :class:`HTTPException` where there is none, or it does not say how large it is.
        """
        length = headers.get("content-length", "")
        if not length.isdecimal():
            raise HTTPException(411, "an upload must say how long it is")
        self._coming += int(length)
        # Those that end while the folder is looked through count as coming, those that begin
        # meanwhile count this one.
        coming = self._coming
        try:
            if await asyncio.to_thread(_size_of, self._folder) + coming > FOLDER_MAX:
                raise HTTPException(507, "no room for more files just now")
            yield _one_file(headers.get("content-type", ""), receive)
        finally:
            self._coming -= int(length)
            if self._coming == 0:
                # What uploads that broke off have left: whole ones lie in folders.
                with contextlib.suppress(OSError):
                    for path in filter(Path.is_file, self._folder.iterdir()):
                        path.unlink(missing_ok=True)

    async def _admitted(self, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """Return the request as Gradio may see it; HTTPException where it is none of the page's."""
        method, path = scope["method"], scope["path"]
        if method == "POST" and path in _BODIES:
            body = self._read(_BODIES[path], await whole_body(receive))
            headers = MutableHeaders(raw=list(scope["headers"]))
            headers["content-length"] = str(len(body))
            headers["content-type"] = "application/json"
            return {**scope, "headers": headers.raw}, _after(body, receive)
        known = path in _READ or path.startswith(_READ_BELOW)
        if path.startswith(_FILE):
            known = self._is_own(path.removeprefix(_FILE))
        if path == _STREAM:
            asked = parse_qs(scope["query_string"].decode("latin-1"))
            known = asked.get("session_hash", [""])[0] in self._sessions
        if not known or method not in ("GET", "HEAD"):
            raise HTTPException(404)
        return scope, _after(await whole_body(receive), receive)

    def _read(self, kind: type[_Sent], body: bytes) -> bytes:
        """Return a body with what the page would have sent in it, and nothing else."""
        try:
            # Half of a pair, which a text that was cut may end with, is no UTF-8.
            text = json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
            sent = kind.model_validate_json(text)
        except (ValueError, RecursionError):
            raise HTTPException(400, _NOT_OURS) from None
        found = sent.model_dump()
        if isinstance(sent, _Event):
            inputs = self._events.get(sent.fn_index, ())
            fits = 0 < len(inputs) == len(sent.data)
            if not fits or not all(map(self._takes, inputs, sent.data)):
                raise HTTPException(400, _NOT_OURS)
            for value in found["data"]:
                if isinstance(value, dict):
                    value["meta"] = {"_type": "gradio.FileData"}
            self._sessions[sent.session_hash] = None
            self._sessions.move_to_end(sent.session_hash)
            if len(self._sessions) > _SESSIONS_MAX:
                self._sessions.popitem(last=False)
        return json.dumps(found).encode()

    def _takes(self, expected: Input, value: _Plain | _File) -> bool:
        if expected == "language":
            return value in LANGUAGES
        if isinstance(value, _File):
            return expected == "file" and self._is_own(value.path)
        return value is None or expected != "file"

    def _is_own(self, path: str) -> bool:
        """Say whether this is the path of a visitor's file, wherever links lead."""
        try:
            found = Path(path).resolve(strict=True)
            return found.is_relative_to(self._folder) and found.is_file()
        except (OSError, ValueError):
            return False


def _one_file(content_type: str, receive: Receive) -> Receive:
    """Return what receives an upload, and raises MultipartParseError where a second file begins."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise HTTPException(400, "an upload is multipart/form-data with a boundary")
    parts = 0

    def begun() -> None:
        nonlocal parts
        parts += 1
        if parts > 1:
            raise MultipartParseError("one file at a time")

    try:
        parser = MultipartParser(boundary, {"on_part_begin": begun})
    except FormParserError as error:
        raise HTTPException(400, "this is no boundary of multipart/form-data") from error

    async def received() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            parser.write(message.get("body", b""))
        return message

    return received


def _size_of(folder: Path) -> int:
    """Return how many bytes the files below a folder take; some may vanish meanwhile."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += Path(parent, name).lstat().st_size
    return size


class _Answer:
    """An answer with our headers, in which no error has words of Gradio's."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.status, self._refused = 0, False

    async def send(self, message: Message) -> None:
        """Send a part of what Gradio answers."""
        if self._refused:
            return
        if message["type"] == "http.response.start":
            status = message["status"]
            if status >= 400:
                await self.refuse(status, HTTPStatus(status).phrase)
                return
            self.status = status
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        elif self._scope["path"] == _STREAM:
            message = {**message, "body": _wordless(message.get("body", b""))}
        await self._send(message)

    async def refuse(self, status: int, reason: str) -> None:
        """Answer an error, or end an answer that has begun."""
        if self._refused:
            return
        self._refused = True
        if self.status:
            await self._send({"type": "http.response.body", "body": b""})
            return
        self.status = status
        response: Response = JSONResponse({"detail": reason}, status)
        # The page shows what it is told of an upload as it is.
        if self._scope["path"] == _UPLOAD:
            response = PlainTextResponse(reason, status)
        response.raw_headers.extend(HEADERS)
        await response(self._scope, self._receive, self._send)


def _wordless(events: bytes) -> bytes:
    """Return messages of an event stream, of which those of errors only say that there is one."""
    told = []
    for event in events.split(b"\n\n"):
        if b'"success":false' in event or b'"unexpected_error"' in event:
            message = json.loads(event.removeprefix(b"data: "))
            message |= {"output": {"error": None}, "message": None}
            event = b"data: " + json.dumps(message).encode()
        told.append(event)
    return b"\n\n".join(told)


def _after(body: bytes, receive: Receive) -> Receive:
    """Return what receives a body that has been read, and then whether the client has gone.

    Gradio asks whether it has before the body is read, and breaks off asking: by that,
    Granian loses the body, and says that the client has gone.
    """
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received
