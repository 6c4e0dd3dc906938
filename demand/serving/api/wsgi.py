"""From a request as ASGI tells it to a WSGI application, and back.

uvicorn's own way there, and a2wsgi, hand each request to a thread, which takes longer than
the answer to an ad.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from starlette.types import Scope

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_HAS_NAME = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
# The body comes whole, whichever way it was cut on its way here.
_OF_THE_CONNECTION = b"transfer-encoding"


def environment(scope: Scope) -> Environ:
    """Return the WSGI environment (PEP 3333) of a request, without its body.

    Headers whose names have an underscore are left out: theirs would be the name of another.
    """
    raw_path: bytes = scope["raw_path"]
    path = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
    if path.startswith(b"//"):
        # Flask takes several slashes for one, and whoever counts must see the same path.
        path = b"/" + path.lstrip(b"/")
    host, port = scope["server"] or ("localhost", None)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if scope["client"] is not None:
        environ["REMOTE_ADDR"] = scope["client"][0]
    for name, value in scope["headers"]:
        key = _HAS_NAME.get(name)
        if key is None:
            if b"_" in name or name == _OF_THE_CONNECTION:
                continue
            key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.strip(b" \t").decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


class WsgiAnswer:
    """What a WSGI application answers to a request, once it is whole.

    Parameters
    ----------
    app
        It answers in one piece.
    environ
        See :func:`environment`.
    body
        Of the request.
    """

    def __init__(self, app: Wsgi, environ: Environ, body: bytes) -> None:
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        environ["wsgi.input"] = io.BytesIO(body)
        parts = app(environ, self._start)
        try:
            self.body = b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    def _start(self, status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
        self.status = int(status[:3])
        self.headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers]
