"""What every request goes through, whatever answers it: a token, an id, headers, a log line.

It stands around the Flask application as WSGI middleware: in Flask's own hooks, which look
up the request anew at every use, the same takes as long as the answer of an ad.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

from demand.serving.api.problems import Problem
from demand.serving.api.settings import ApiSettings
from demand.serving.api.telemetry import AccessLog, Telemetry
from demand.serving.api.wsgi import Environ, Wsgi

# What a view leaves behind about its request, for the counts and the log.
REQUEST_ID, ADS, VERSION = "demand.request_id", "demand.ads", "demand.version"
# What the front says of a request: when it began to come, and that it is one too many.
STARTED, FULL = "demand.started", "demand.full"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# These tell nothing but that and how the process lives.
_OPEN_TO_ALL = ("/health", "/ready", "/openapi.json", "/")
_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
]


Answer = tuple[str, tuple[tuple[str, str], ...], bytes]


def _ready(problem: Problem) -> Answer:
    """Return status, headers and body of a problem."""
    answer = problem.response()
    return answer.status, tuple(answer.headers.items()), answer.get_data()


_FULL = _ready(Problem(503, "too many requests at a time: try again in a second"))
_NO_TOKEN = _ready(Problem(401, "this API wants a bearer token in the header Authorization"))


class Surroundings:
    """WSGI middleware around the API.

    Parameters
    ----------
    app
        What answers.
    routes
        Paths that are told apart in metrics and log; all else is ``other``.
    settings
        See :class:`demand.serving.api.settings.ApiSettings`.
    telemetry, access_log
        Where requests are counted, and where a line a request goes (None: nowhere).
    """

    def __init__(
        self,
        app: Wsgi,
        routes: Iterable[str],
        settings: ApiSettings,
        telemetry: Telemetry,
        access_log: AccessLog | None,
    ) -> None:
        self._app = app
        self._routes = frozenset(routes)
        self._settings = settings
        self._telemetry = telemetry
        self._access_log = access_log

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        started = environ.get(STARTED) or time.perf_counter()
        given = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        environ[REQUEST_ID] = request_id

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            headers += _HEADERS
            headers.append(("X-Request-Id", request_id))
            origin = environ.get("HTTP_ORIGIN")
            if origin is not None and origin in self._settings.origins:
                headers += [
                    ("Access-Control-Allow-Origin", origin),
                    ("Access-Control-Allow-Headers", "Authorization, Content-Type"),
                    ("Vary", "Origin"),
                ]
            self._tell(environ, int(status[:3]), time.perf_counter() - started)
            return start_response(status, headers, exc_info)

        def refuse(answer: Answer) -> list[bytes]:
            status, headers, body = answer
            start(status, list(headers))
            return [body]

        if not has_token(environ, self._settings):
            return refuse(_NO_TOKEN)
        if FULL in environ:
            # Before Flask hears of it: a no that costs as much as an answer leaves none.
            return refuse(_FULL)
        return self._app(environ, start)

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


def has_token(environ: Environ, settings: ApiSettings) -> bool:
    """Say whether a request may be answered, as far as the token goes."""
    if settings.token is None or environ["PATH_INFO"] in _OPEN_TO_ALL:
        return True
    if environ["REQUEST_METHOD"] == "OPTIONS":  # browsers ask without it first
        return True
    # What WSGI gives as a text are the bytes that came.
    given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
    return hmac.compare_digest(given, f"Bearer {settings.token}".encode())
