"""The Flask application: routes, what goes with every request, and errors as problems.

It runs on an event loop, small requests in place and long ones in threads: a request of a few
ads is answered faster in place than it is handed to a thread and back, as asgiref and a2wsgi do.
"""

from __future__ import annotations

import hmac
import io
import json
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from starlette.exceptions import HTTPException
from werkzeug.exceptions import HTTPException as FlaskException

from demand.errors import AdError, ServingError, StateError, TooLargeError
from demand.features.encoding import AdColumns
from demand.model.calibration import COVERAGE
from demand.model.predictor import Answers
from demand.production_log.outcomes import outcomes_from_json
from demand.production_log.store import ProductionLog
from demand.schema.records import typed_records
from demand.serving.api.model_provider import ModelProvider, ModelServerProxy, Serving
from demand.serving.api.telemetry import Telemetry, openapi, page
from demand.serving.http.bodies import ads_from_json
from demand.serving.http.middleware import (
    PROBE_HEADER,
    REQUEST_ID_HEADER,
    RETRY_AFTER_S,
    TOO_MANY,
    VERSION_HEADER,
    Admission,
    Headers,
    probe_rows,
    request_id,
    whole_body,
)

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from demand.serving.api.server import ApiSettings

Environ = dict[str, Any]

# What is known of a request, for the counts and the log.
_STARTED, _REQUEST_ID = "demand.started", "demand.request_id"
_ADS, _VERSION = "demand.ads", "demand.version"
# What is set where a request is one too many.
_FULL = "demand.full"
# These tell nothing but that and how the process lives.
_OPEN_TO_ALL = ("/health", "/ready", "/openapi.json", "/")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
# Headers of a request, as WSGI has them.
_GIVEN_ID, _PROBE = "HTTP_X_REQUEST_ID", "HTTP_DEMAND_PROBE"
_JSON, _PROMETHEUS = "application/json", "text/plain; version=0.0.4; charset=utf-8"
_log = logging.getLogger("demand.api")
_PASSED_ON = ("content-type", VERSION_HEADER)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
# A body of so many bytes is answered in some milliseconds: a dozen ads with long texts, or
# hundreds that are hardly more than a category.
_SMALL = 2**14
# Batches that are computed at a time: more would only take the interpreter from each other.
_BATCHES = 2


class FlaskOnLoop:
    """ASGI application around the Flask one that :func:`create_app` makes."""

    def __init__(self, app: Flask, settings: ApiSettings, telemetry: Telemetry) -> None:
        self._app, self._settings, self._in_flight = app, settings, telemetry.in_flight
        # Apart, so that those who wait for long keep nobody from what takes a moment.
        self._admissions = {
            "/predict": Admission("batch", _BATCHES, settings.batches),
            "/invocations": Admission("passed-on", settings.passed_on, settings.passed_on),
            "/outcomes": Admission("outcomes", 1, settings.batches),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        environ = environment(scope)
        posted = environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] in self._admissions
        # Nobody's body is read who may not ask, or where none is wanted.
        wanted = posted and _has_token(environ, self._settings)
        try:
            body = await whole_body(receive) if wanted else b""
        except HTTPException:
            return
        status, headers, content = await self._answer(environ, body)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, environ: Environ, body: bytes) -> tuple[int, Headers, bytes]:
        path = environ["PATH_INFO"]
        if not body or (path == "/predict" and len(body) <= _SMALL):
            return self._ask(environ, body)
        self._in_flight.inc()
        try:
            return await self._admissions[path].run(partial(self._ask, environ, body))
        except HTTPException:
            return self._ask({**environ, _FULL: True}, b"")
        finally:
            self._in_flight.dec()

    def _ask(self, environ: Environ, body: bytes) -> tuple[int, Headers, bytes]:
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = io.BytesIO(body)
        with self._app.request_context(environ):
            response = self._app.full_dispatch_request()
            headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in response.headers]
            content = b"" if environ["REQUEST_METHOD"] == "HEAD" else response.get_data()
            return response.status_code, headers, content


def environment(scope: Scope) -> Environ:
    """Return what Flask reads of the WSGI environment (PEP 3333) of a request, without its body.

    Headers whose names have an underscore are left out: theirs would be the name of another.
    """
    # Flask takes several slashes or none for one, and whoever counts must see the same path.
    path = "/" + scope["path"].lstrip("/")
    host, port = scope["server"] or ("localhost", None)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
    }
    if scope["client"] is not None:
        environ["REMOTE_ADDR"] = scope["client"][0]
    for name, value in scope["headers"]:
        # The body comes whole, whichever way it was cut on its way here.
        if b"_" in name or name == b"transfer-encoding":
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        text = value.strip(b" \t").decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


def create_app(
    models: ModelProvider,
    upstream: ModelServerProxy,
    settings: ApiSettings,
    telemetry: Telemetry,
    log: ProductionLog | None = None,
) -> Flask:
    """Return the Flask application, which asks for the model at every request.

    ``/invocations`` is passed on to ``upstream``. What is answered, and what became of it, goes to
    the log, unless that is None.
    """
    app = Flask("demand")
    app.config["MAX_CONTENT_LENGTH"] = settings.body_bytes
    _answer_problems(app)
    _add_facts(app, models, settings, telemetry)

    writer = None if log is None else log.writer(telemetry.count_logged, models.shadow)

    @app.post("/predict")
    def predict() -> Response:
        environ, serving = request.environ, _model(models)
        ads, as_list = _posted(settings, "ads")
        typed = typed_records(ads)
        answers = serving.predictor.answer(AdColumns.from_typed(typed))
        found = _as_json(answers, serving.version)
        unknown: dict[int, list[str]] = {}
        for row, field, _ in serving.facts.known.unknown(typed):
            unknown.setdefault(row, []).append(field)
        for row, fields in unknown.items():
            found[row]["unknown"] = fields
        environ[_ADS], environ[_VERSION] = len(ads), serving.version
        if writer is not None:
            probes = probe_rows(environ.get(_PROBE), len(ads))
            told = environ[_REQUEST_ID], serving.version, typed, answers.probability, probes
            writer.add(*told, interval=answers.interval, unknown=unknown)
        return _json(found if as_list else found[0])

    @app.post("/invocations")
    def invocations() -> Response:
        environ = request.environ
        headers = {REQUEST_ID_HEADER: environ[_REQUEST_ID]}
        if request.content_type:
            headers["Content-Type"] = request.content_type
        if _PROBE in environ:
            headers[PROBE_HEADER] = environ[_PROBE]
        answer = upstream.ask(request.get_data(cache=False), headers)
        # Hop-by-hop headers, and those that this server sets itself, stay behind.
        kept = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        return Response(answer.content, answer.status, kept)

    @app.post("/outcomes")
    def outcomes() -> Response:
        if log is None:
            raise HTTPException(404, "outcomes are not kept: DEMAND_LOG_URL is off")
        reported, _ = _posted(settings, "outcomes")
        read = outcomes_from_json(reported)
        try:
            return _json({"accepted": log.add_outcomes(read)})
        except StateError as error:
            _log.warning("%s", error)
            raise HTTPException(503, "outcomes cannot be kept now; the log says why") from error

    _add_hooks(app, settings, telemetry)
    return app


def _posted(settings: ApiSettings, what: str) -> tuple[list[object], bool]:
    """Return what came as JSON, one or a list, not yet looked at; and whether it was a list."""
    # Parsing what nearly all send would take longer than comparing it.
    if request.environ.get("CONTENT_TYPE") != _JSON and request.mimetype != _JSON:
        raise HTTPException(415, f"send {_JSON}")
    if request.environ.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
        raise HTTPException(415, "send the body as it is, not compressed")
    return ads_from_json(request.get_data(cache=False), settings.ads, what)


def _add_facts(
    app: Flask, models: ModelProvider, settings: ApiSettings, telemetry: Telemetry
) -> None:
    document = openapi(settings)
    documentation = page(document)
    batches = settings.batches * settings.workers
    limits = {"body_bytes": settings.body_bytes, "ads": settings.ads, "batches": batches}

    def info() -> Response:
        serving = models.serving
        about: dict[str, Any] = {"model_version": None, "problem": models.problem}
        if serving is not None:
            about |= {
                "model_version": serving.version,
                "since": serving.since,
                "data_md5": serving.data_md5 or None,
                "metrics": serving.metrics,
            }
        return _json({**about, "limits": limits})

    def fact(name: str) -> Response:
        serving = _model(models)
        request.environ[_VERSION] = serving.version
        told = getattr(serving.facts, name)
        if told.body is None:
            raise HTTPException(404, told.why)
        return Response(told.body, content_type=_JSON)

    routes: dict[str, Callable[[], Response]] = {
        "/health": lambda: _json({"status": "alive"}),
        "/ready": lambda: _json({"status": "ready", "model_version": _model(models).version}),
        "/info": info,
        "/market": partial(fact, "market"),
        "/card": partial(fact, "card"),
        "/metrics": lambda: Response(telemetry.text(), content_type=_PROMETHEUS),
        "/openapi.json": lambda: _json(document),
        "/": lambda: Response(documentation, content_type="text/html; charset=utf-8"),
    }
    for path, answer in routes.items():
        app.add_url_rule(path, path, answer)


def _add_hooks(app: Flask, settings: ApiSettings, telemetry: Telemetry) -> None:
    """Give every request an id, a token to show, headers, a count and a line of the log."""
    routes = frozenset(rule.rule for rule in app.url_map.iter_rules())

    @app.before_request
    def admit() -> None:
        environ = request.environ
        environ[_STARTED] = time.perf_counter()
        environ[_REQUEST_ID] = request_id(environ.get(_GIVEN_ID, ""))
        if not _has_token(environ, settings):
            raise HTTPException(401, "this API wants a bearer token in the header Authorization")
        if _FULL in environ:
            raise HTTPException(503, TOO_MANY)

    @app.after_request
    def finish(response: Response) -> Response:
        environ = request.environ
        response.headers.extend({**HEADERS, "X-Request-Id": environ[_REQUEST_ID]})
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and origin in settings.origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
            response.headers["Vary"] = "Origin"
        route = environ["PATH_INFO"] if environ["PATH_INFO"] in routes else "other"
        seconds, ads = time.perf_counter() - environ[_STARTED], environ.get(_ADS, 0)
        facts = {"id": environ[_REQUEST_ID], "method": environ["REQUEST_METHOD"]}
        facts["version"] = environ.get(_VERSION)
        telemetry.record(route, response.status_code, seconds, ads, **facts)
        return response


def _has_token(environ: Environ, settings: ApiSettings) -> bool:
    """Say whether a request may be answered, as far as the token goes."""
    # By OPTIONS browsers ask without it first.
    open_to_all = environ["PATH_INFO"] in _OPEN_TO_ALL or environ["REQUEST_METHOD"] == "OPTIONS"
    if settings.token is None or open_to_all:
        return True
    # What WSGI gives as a text are the bytes that came.
    given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
    return hmac.compare_digest(given, f"Bearer {settings.token}".encode())


def problem(status: int, detail: str, **more: object) -> Response:
    """Return an answer other than 2xx as ``application/problem+json`` (RFC 9457).

    The detail is one sentence for the caller: what is wrong, and the way out. Further members,
    such as ``field`` and ``row``, are left out where they are None.
    """
    members = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **{name: value for name, value in more.items() if value is not None},
    }
    text = json.dumps(members, ensure_ascii=False).encode("utf-8", "replace")
    answer = Response(text, status, content_type="application/problem+json")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _answer_problems(app: Flask) -> None:
    """Turn what is raised into a problem, and never into a traceback."""

    @app.errorhandler(Exception)
    def answer(error: Exception) -> Response:
        match error:
            case HTTPException():
                return problem(error.status_code, error.detail)
            case ServingError():
                return problem(503, str(error))
            case AdError():
                status = 400 if error.field is None and error.row is None else 422
                status = 413 if isinstance(error, TooLargeError) else status
                return problem(status, str(error), field=error.field, row=error.row)
            case FlaskException():
                told = problem(error.code or 500, error.description or error.name)
                for name, value in error.get_headers():  # such as Allow
                    if name.lower() not in ("content-type", "content-length"):
                        told.headers[name] = value
                return told
        failed = request.environ.get(_REQUEST_ID)
        _log.exception("request %s failed", failed)
        why = "the request failed here: the server's log says why, under the id of the request"
        return problem(500, why, request_id=failed)


def _model(models: ModelProvider) -> Serving:
    if models.serving is None:
        raise HTTPException(503, models.problem or "no model answers yet")
    return models.serving


def _as_json(answers: Answers, version: str) -> list[dict[str, Any]]:
    probabilities = answers.probability.tolist()
    nothing: list[Any] = [None] * len(probabilities)
    more = (answers.low, answers.high, answers.percentile)
    columns = [nothing if column is None else column.tolist() for column in more]
    return [
        {
            "deal_probability": probability,
            "interval": None if low is None else {"low": low, "high": high, "coverage": COVERAGE},
            "percentile": percentile,
            "model_version": version,
        }
        for probability, low, high, percentile in zip(probabilities, *columns, strict=True)
    ]


def _json(value: object) -> Response:
    return Response(_ENCODER.encode(value).encode(), content_type=_JSON)
