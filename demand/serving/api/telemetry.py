"""What the API tells about itself: metrics for Prometheus, and a line of JSON a request."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Sequence
from typing import TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from demand.serving.api.champions import Champions
from demand.serving.api.overload import Admission

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0)


class Telemetry:
    """Metrics of one API process, in a registry of their own."""

    def __init__(self, champions: Champions, admissions: Sequence[Admission]) -> None:
        self._registry = CollectorRegistry()
        self._champions = champions
        self._requests = Counter(
            "demand_requests",
            "Requests by route and status",
            ["route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "demand_request_seconds",
            "Seconds to the answer by route",
            ["route"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._ads = Counter("demand_ads", "Ads that were judged", registry=self._registry)
        self._version = Gauge(
            "demand_champion",
            "1 for the version that answers",
            ["version"],
            registry=self._registry,
        )
        in_flight = Gauge("demand_in_flight", "Requests being answered", registry=self._registry)
        in_flight.set_function(lambda: sum(admission.in_flight for admission in admissions))
        right = Gauge(
            "demand_champion_answers",
            "1 while what answers is the champion",
            registry=self._registry,
        )
        right.set_function(lambda: float(champions.problem is None))

    def count(self, route: str, status: int, seconds: float, ads: int) -> None:
        """Count one request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if ads:
            self._ads.inc(ads)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        self._version.clear()
        if self._champions.serving is not None:
            self._version.labels(self._champions.serving.version).set(1)
        return generate_latest(self._registry)


class AccessLog:
    """One line of JSON a request: never a description, an id of a user, or a query.

    Parameters
    ----------
    stream
        Where the lines go; None: standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def write(self, **facts: object) -> None:
        """Write one line."""
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, **facts}, ensure_ascii=True)
        print(line, file=self._stream or sys.stderr, flush=True)
