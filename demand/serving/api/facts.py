"""Routes that tell of the model which answers: its market and its card."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, Response, request

from demand.serving.api.champions import Serving
from demand.serving.api.problems import Problem
from demand.serving.api.surroundings import VERSION
from demand.serving.facts import Fact


def add_model_facts(app: Flask, serving: Callable[[], Serving]) -> None:
    """Add ``GET /market`` and ``GET /card``.

    Parameters
    ----------
    app
        The application; who may ask is its own to say.
    serving
        What answers now, asked at every request. It raises a
        :class:`~demand.serving.api.problems.Problem` where there is nothing.
    """

    @app.get("/market")
    def market() -> Response:
        now = serving()
        return _told(now, now.facts.market)

    @app.get("/card")
    def card() -> Response:
        now = serving()
        return _told(now, now.facts.card)


def _told(now: Serving, fact: Fact) -> Response:
    request.environ[VERSION] = now.version
    if fact.body is None:
        raise Problem(404, fact.why)
    return Response(fact.body, content_type="application/json")
