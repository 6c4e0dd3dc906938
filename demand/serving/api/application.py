"""The Flask application: its routes, and what becomes of what goes wrong in them."""

from __future__ import annotations

import json
import logging
from typing import Any

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException

from demand.errors import AdError, ServingError
from demand.features.columns import AdColumns
from demand.ingestion.records import typed_records
from demand.intervals import COVERAGE
from demand.predictor import Answers
from demand.serving.api.champions import Champions, Serving
from demand.serving.api.description import openapi, page
from demand.serving.api.facts import add_model_facts
from demand.serving.api.problems import Problem, from_http
from demand.serving.api.settings import ApiSettings
from demand.serving.api.surroundings import ADS, REQUEST_ID, VERSION, Surroundings
from demand.serving.api.telemetry import AccessLog, Telemetry
from demand.serving.api.upstream import ModelServerUpstream
from demand.serving.json_body import decode_json

_log = logging.getLogger("demand.api")
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def create_app(
    champions: Champions,
    upstream: ModelServerUpstream | None,
    settings: ApiSettings,
    telemetry: Telemetry | None = None,
    access_log: AccessLog | None = None,
) -> Flask:
    """Return the application.

    Parameters
    ----------
    champions
        Where the model comes from, at every request.
    upstream
        What ``/invocations`` is passed on to; None: nothing, and the answer is 503.
    settings
        See :class:`demand.serving.api.settings.ApiSettings`.
    telemetry
        Where requests are counted; None: for this application alone.
    access_log
        Where a line a request goes; None: nowhere.
    """
    app = Flask("demand")
    app.config["MAX_CONTENT_LENGTH"] = settings.body_bytes
    telemetry = telemetry or Telemetry(champions)
    _answer_problems(app)
    _add_facts(app, champions, settings, telemetry)
    add_model_facts(app, lambda: _model(champions))

    @app.post("/predict")
    def predict() -> Response:
        # Looked up anew at every use, it takes as long as reading the ad.
        this = request._get_current_object()  # type: ignore[attr-defined]
        serving = _model(champions)
        asked = decode_json(_json_body(this))
        ads = asked if isinstance(asked, list) else [asked]
        if len(ads) > settings.ads:
            raise Problem(413, f"{len(ads):,} ads in one request; at most {settings.ads:,}")
        answers = serving.predictor.answer(AdColumns.from_typed(typed_records(ads)))
        found = _as_json(answers, serving.version)
        this.environ[ADS], this.environ[VERSION] = len(ads), serving.version
        return _json(found if isinstance(asked, list) else found[0])

    @app.post("/invocations")
    def invocations() -> Response:
        if upstream is None:
            raise Problem(503, "no model server stands behind this API")
        body = request.get_data(cache=False)
        answer = upstream.ask("POST", "/invocations", body, request.content_type or "")
        return Response(answer.body, answer.status, answer.headers)

    routes = [rule.rule for rule in app.url_map.iter_rules()]
    around = Surroundings(app.wsgi_app, routes, settings, telemetry, access_log)
    app.wsgi_app = around  # type: ignore[method-assign]
    return app


def _add_facts(
    app: Flask, champions: Champions, settings: ApiSettings, telemetry: Telemetry
) -> None:
    document, documentation_page = openapi(settings), page(settings)

    @app.get("/health")
    def health() -> Response:
        return _json({"status": "alive"})

    @app.get("/ready")
    def ready() -> Response:
        return _json({"status": "ready", "model_version": _model(champions).version})

    @app.get("/info")
    def info() -> Response:
        serving = champions.serving
        about: dict[str, Any] = {"model_version": None, "problem": champions.problem}
        if serving is not None:
            about |= {
                "model_version": serving.version,
                "since": serving.since,
                "data_md5": serving.data_md5 or None,
                "metrics": serving.metrics,
            }
        limits = {
            "body_bytes": settings.body_bytes,
            "ads": settings.ads,
            "in_flight": settings.in_flight * settings.workers,
            "batches": settings.batches * settings.workers,
        }
        return _json({**about, "limits": limits})

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(telemetry.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/openapi.json")
    def describe() -> Response:
        return _json(document)

    @app.get("/")
    def documentation() -> Response:
        return Response(documentation_page, content_type="text/html; charset=utf-8")


def _answer_problems(app: Flask) -> None:
    """Turn what is raised into a problem, and never into a traceback."""

    @app.errorhandler(Problem)
    def problem(error: Problem) -> Response:
        return error.response()

    @app.errorhandler(AdError)
    def wrong_ad(error: AdError) -> Response:
        status = 400 if error.field is None and error.row is None else 422
        return Problem(status, str(error), field=error.field, row=error.row).response()

    @app.errorhandler(ServingError)
    def unreachable(error: ServingError) -> Response:
        return Problem(503, str(error)).response()

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        return from_http(error)

    @app.errorhandler(Exception)
    def failed(_: Exception) -> Response:
        request_id = request.environ.get(REQUEST_ID)
        _log.exception("request %s failed", request_id)
        why = "the request failed here: the server's log says why, under the id of the request"
        return Problem(500, why, request_id=request_id).response()


def _model(champions: Champions) -> Serving:
    if champions.serving is None:
        raise Problem(503, champions.problem or "no model answers yet")
    return champions.serving


def _json_body(asked: Request) -> bytes:
    if asked.mimetype != "application/json":
        raise Problem(415, "send application/json")
    if asked.headers.get("Content-Encoding", "identity") != "identity":
        raise Problem(415, "send the body as it is, not compressed")
    return asked.get_data(cache=False)


def _as_json(answers: Answers, version: str) -> list[dict[str, object]]:
    n = len(answers.probability)
    nothing: list[Any] = [None] * n
    low = nothing if answers.low is None else answers.low.tolist()
    high = nothing if answers.high is None else answers.high.tolist()
    ranks = nothing if answers.percentile is None else answers.percentile.tolist()
    return [
        {
            "deal_probability": probability,
            "interval": None
            if low[row] is None
            else {"low": low[row], "high": high[row], "coverage": COVERAGE},
            "percentile": ranks[row],
            "model_version": version,
        }
        for row, probability in enumerate(answers.probability.tolist())
    ]


def _json(value: object) -> Response:
    return Response(_ENCODER.encode(value).encode(), content_type="application/json")
