"""What the API tells about itself: metrics for Prometheus, and a line of JSON a request."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from demand.serving.api.champions import Champions

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0)
_SHARED = "PROMETHEUS_MULTIPROC_DIR"


def share_metrics(folder: Path) -> None:
    """Let all workers that are forked from here count into files of one folder.

    It is what prometheus_client does where the variable is set before its import; whoever
    asks one worker for its metrics gets those of all.
    """
    os.environ[_SHARED] = str(folder)
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def forget_worker(pid: int) -> None:
    """Leave a worker that ended out of what is now; what it has counted stays."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


class _Standing(Collector):
    """What the worker that is asked answers with."""

    def __init__(self, champions: Champions) -> None:
        self._champions = champions

    def collect(self) -> Iterator[Metric]:
        """Yield the version, and whether it is the champion."""
        version = GaugeMetricFamily(
            "demand_champion", "1 for the version that answers", labels=["version"]
        )
        if self._champions.serving is not None:
            version.add_metric([self._champions.serving.version], 1.0)
        yield version
        yield GaugeMetricFamily(
            "demand_champion_answers",
            "1 while what answers is the champion",
            value=float(self._champions.problem is None),
        )


class Telemetry:
    """Metrics of the API, of all its workers where they are shared.

    Parameters
    ----------
    champions
        What answers.
    """

    def __init__(self, champions: Champions) -> None:
        self._registry = CollectorRegistry()
        self._standing = _Standing(champions)
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
        # Looking up what has labels takes longer than counting.
        self._counted: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._ads = Counter("demand_ads", "Ads that were judged", registry=self._registry)
        self.in_flight = Gauge(
            "demand_in_flight",
            "Requests being answered",
            multiprocess_mode="livesum",
            registry=self._registry,
        )

    def count(self, route: str, status: int, seconds: float, ads: int) -> None:
        """Count one request."""
        counted = self._counted.get((route, status))
        if counted is None:
            counted = self._requests.labels(route, str(status)), self._seconds.labels(route)
            self._counted[route, status] = counted
        counted[0].inc()
        counted[1].observe(seconds)
        if ads:
            self._ads.inc(ads)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        counted, standing = self._registry, CollectorRegistry()
        if _SHARED in os.environ:
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        standing.register(self._standing)
        return generate_latest(counted) + generate_latest(standing)


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
        """Write one line; a log that nobody reads any more is no reason to answer nobody."""
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, **facts}, ensure_ascii=True)
        # In one piece, since other workers write to the same place.
        stream = self._stream or sys.stderr
        with contextlib.suppress(OSError, ValueError):
            stream.write(f"{line}\n")
            stream.flush()
