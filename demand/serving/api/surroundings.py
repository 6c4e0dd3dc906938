"""What every request goes through, whatever answers it: admission, an id, headers, a log line.

It stands around the Flask application as WSGI middleware: in Flask's own hooks, which look
up the request anew at every use, the same takes as long as the answer of an ad.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from demand.serving.api.overload import Admission
from demand.serving.api.problems import Problem
from demand.serving.api.settings import ApiSettings
from demand.serving.api.telemetry import AccessLog, Telemetry

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

# What a view leaves behind about its request, for the counts and the log.
REQUEST_ID, ADS, VERSION = "demand.request_id", "demand.ads", "demand.version"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
]
_PART = 2**16


def _refused() -> tuple[str, tuple[tuple[str, str], ...], bytes]:
    """Return status, headers and body of what those hear who are not let in."""
    problem = Problem(503, "too many requests at a time: try again in a second").response()
    return problem.status, tuple(problem.headers.items()), problem.get_data()


_REFUSED = _refused()


class Surroundings:
    """WSGI middleware around the API.

    Parameters
    ----------
    app
        What answers.
    routes
        Paths that are told apart in metrics and log; all else is ``other``.
    limits
        How many requests a path lets in at a time; the others hear 503 before Flask
        hears of them, since a no that costs as much as an answer leaves none.
    settings
        See :class:`demand.serving.api.settings.ApiSettings`.
    telemetry, access_log
        Where requests are counted, and where a line a request goes (None: nowhere).
    """

    def __init__(
        self,
        app: Wsgi,
        routes: Iterable[str],
        limits: Mapping[str, Admission],
        settings: ApiSettings,
        telemetry: Telemetry,
        access_log: AccessLog | None,
    ) -> None:
        self._app = app
        self._routes = frozenset(routes)
        self._limits = limits
        self._settings = settings
        self._telemetry = telemetry
        self._access_log = access_log

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        started = time.perf_counter()
        given = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        environ[REQUEST_ID] = request_id

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            code = int(status[:3])
            if code >= HTTPStatus.BAD_REQUEST and code != HTTPStatus.REQUEST_TIMEOUT:
                self._discard_body(environ)
            headers += _HEADERS
            headers.append(("X-Request-Id", request_id))
            origin = environ.get("HTTP_ORIGIN")
            if origin is not None and origin in self._settings.origins:
                headers += [
                    ("Access-Control-Allow-Origin", origin),
                    ("Access-Control-Allow-Headers", "Authorization, Content-Type"),
                    ("Vary", "Origin"),
                ]
            self._tell(environ, code, time.perf_counter() - started)
            return start_response(status, headers, exc_info)

        posted = environ["REQUEST_METHOD"] == "POST"
        admission = self._limits.get(environ["PATH_INFO"]) if posted else None
        if admission is None:
            return self._app(environ, start)
        if not admission.enter():
            status, refusal, body = _REFUSED
            start(status, list(refusal))
            return [body]
        try:
            # What these paths answer is whole when the application returns.
            return self._app(environ, start)
        finally:
            admission.leave()

    def _tell(self, environ: Environ, status: int, seconds: float) -> None:
        path = environ["PATH_INFO"]
        route, ads = path if path in self._routes else "other", environ.get(ADS, 0)
        self._telemetry.count(route, status, seconds, ads)
        if self._access_log is not None:
            self._access_log.write(
                id=environ[REQUEST_ID],
                method=environ["REQUEST_METHOD"],
                route=route,
                status=status,
                ms=round(seconds * 1000, 2),
                ads=ads,
                version=environ.get(VERSION),
            )

    def _discard_body(self, environ: Environ) -> None:
        """Read what is left of a refused body, so that the connection can be kept."""
        length = environ.get("CONTENT_LENGTH") or "0"
        short = length.isdecimal() and int(length) <= self._settings.body_bytes
        if short and environ["REQUEST_METHOD"] == "POST":
            left = int(length)
            while left > 0 and (part := environ["wsgi.input"].read(min(_PART, left))):
                left -= len(part)
