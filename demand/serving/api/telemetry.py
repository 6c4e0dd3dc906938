"""What the API tells about itself: metrics, a line of JSON a request, and its description.

That is OpenAPI 3.1 from ``openapi.json``, and a page of it; what is read of an ad is described
by the pydantic model that reads it.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from demand import __version__
from demand.production_log.outcomes import Outcome
from demand.schema.records import AD_MODEL
from demand.serving.api.model_provider import ModelProvider
from demand.serving.api.server import SHARED_METRICS, ApiSettings

_FILES = files("demand.serving.api")
_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0)


class Telemetry(Collector):
    """Metrics of the API, of all its workers where they are shared, and its access log.

    A line of the log, one a request, never has a description, an id of a user, or a query;
    without a handler there is no log. Of what answers, the version and whether it is the
    champion are those of the worker asked.
    """

    def __init__(self, models: ModelProvider, access_log: logging.Handler | None = None) -> None:
        self._models, self._log = models, access_log
        self._registry = own = CollectorRegistry()
        self._requests = Counter(
            "demand_requests", "Requests by route and status", ["route", "status"], registry=own
        )
        about = "Seconds to the answer by route"
        self._seconds = Histogram(
            "demand_request_seconds", about, ["route"], buckets=_BUCKETS_S, registry=own
        )
        self._ads = Counter("demand_ads", "Ads that were judged", registry=own)
        about = "Predictions written to the production log"
        self._logged = Counter("demand_log_written", about, registry=own)
        about = "Predictions that the production log lost: its queue was full, or it refused them"
        self._dropped = Counter("demand_log_dropped", about, registry=own)
        about = "Batches and passed on requests being answered"
        self.in_flight = Gauge("demand_in_flight", about, multiprocess_mode="livesum", registry=own)

    def record(
        self, route: str, status: int, seconds: float, ads: int = 0, **facts: object
    ) -> None:
        """Count one request, and write a line about it if there are further facts of it."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if ads:
            self._ads.inc(ads)
        if self._log is None or not facts:
            return
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        counted = {"route": route, "status": status, "ms": round(seconds * 1000, 2), "ads": ads}
        line = json.dumps({"at": at, **facts, **counted}, ensure_ascii=True)
        self._log.handle(logging.makeLogRecord({"msg": line}))

    def count_logged(self, written: int, dropped: int) -> None:
        """Count predictions of the production log."""
        self._logged.inc(written)
        self._dropped.inc(dropped)

    def collect(self) -> Iterator[Metric]:
        """Yield what answers, and whether it is the champion."""
        about, serving = "1 for the version that answers", self._models.serving
        version = GaugeMetricFamily("demand_champion", about, labels=["version"])
        if serving is not None:
            version.add_metric([serving.version], 1.0)
        yield version
        about, right = "1 while what answers is the champion", self._models.problem is None
        yield GaugeMetricFamily("demand_champion_answers", about, value=float(right))

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        counted, standing = self._registry, CollectorRegistry()
        if SHARED_METRICS in os.environ:
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        standing.register(self)
        return generate_latest(counted) + generate_latest(standing)


def openapi(settings: ApiSettings) -> dict[str, Any]:
    """Return the description of all routes as an OpenAPI document."""
    document: dict[str, Any] = json.loads(_FILES.joinpath("openapi.json").read_bytes())
    document["info"]["version"] = __version__
    schemas = document["components"]["schemas"]
    schemas["Ad"] = AD_MODEL.json_schema()
    schemas["Outcome"] = Outcome.model_json_schema()
    schemas["Ads"]["maxItems"] = schemas["Outcomes"]["maxItems"] = settings.ads
    if settings.token is not None:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def page(document: dict[str, Any]) -> str:
    """Return a page for people; nothing in it comes from another host."""
    source = _FILES.joinpath("page.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(source).render(document=document)
