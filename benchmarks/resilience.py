"""Does an answer ever fail while models change? ``python -m benchmarks.resilience``.

Asks the Flask API steadily while the champion is switched and rolled back, the model server
is killed, and the registry is locked. Requests begin when they are due, whatever the others
wait for. A gap is the time between two answers (200) of a route that came one after the other;
it is of the event in whose window its middle lies, and a window ends where the next one begins.
All lives in a temporary folder. Prints failures, the longest gaps and what each event did, and
writes it below benchmarks/results. Exit status 0, whatever was found.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import psutil

from benchmarks import report
from benchmarks.servers.installation import (
    INVOCATIONS,
    PREDICT,
    answers,
    await_answer,
    new_ads,
    temporary_installation,
)
from benchmarks.servers.load import sleep_until, steady_load
from cli.terminal import whole_number
from demand.config import DeploySettings
from demand.errors import ServingError
from demand.registry.registry import Registry
from demand.serving.deployment import active, roll_back, roll_out, stop
from demand.workspace.workspace import current_workspace

RATES = {PREDICT: 40.0, INVOCATIONS: 20.0}  # requests per second
SWITCH, ROLLBACK, KILL, LOCK = "switch", "rollback", "SIGKILL", "registry locked"
OTHERS = (KILL, ROLLBACK, LOCK, KILL, ROLLBACK)
VERSIONS = ("1", "2")
SECONDS, SWITCHES = 60, 10
_ADS, _LOCK_S, _BACK_S = 200, 5.0, 60.0
_TOLERANCE = 1e-6


def events_of(switches: int) -> list[str]:
    """Return the kinds of events in their order: the others evenly among the switches."""
    # A switch comes first, since a rollback needs a champion before the present one.
    order = [(n / switches, SWITCH) for n in range(switches)]
    order += [((n + 1) / (len(OTHERS) + 1), kind) for n, kind in enumerate(OTHERS)]
    return [kind for _, kind in sorted(order, key=lambda each: each[0])]


@dataclass(frozen=True)
class Happened:
    """An event during the load, by its seconds."""

    kind: str
    what: str
    begun: float
    ended: float


@dataclass(frozen=True)
class Journal:
    """What became of all requests, and what happened meanwhile, by seconds of the load.

    ``requests`` are those of :func:`benchmarks.servers.load.steady_load`, ``wrong`` the answers
    that are not those of the version that they name. The window of each of the ``events`` ends
    where the next one begins.
    """

    about: Mapping[str, str | float]
    requests: pd.DataFrame
    events: Sequence[Happened]
    wrong: int = 0

    def of(self, path: str, *, failed: bool = False) -> pd.DataFrame:
        """Return the requests of a route that were answered with 200, or those that failed."""
        here = self.requests[self.requests["path"] == path]
        return here[here["failure"].notna() == failed]

    def windows(self, moments: Any) -> Any:
        """Return the number of the event in whose window a moment lies; -1 before the first."""
        return np.searchsorted([event.begun for event in self.events], moments, "right") - 1

    def gap_s(self, path: str, window: int | None = None) -> float:
        """Return the longest gap between two answers of a route; NaN where there is none.

        Its middle must lie in the window of the event of this number, if one is given.
        """
        times = self.of(path)["ended"].sort_values()
        gaps = times.diff()
        if window is not None:
            gaps = gaps[self.windows(times - gaps / 2) == window]
        return float(gaps.max())

    def failed(self, path: str, *kinds: str) -> int:
        """Count the failed requests of a route, in the windows of these kinds of events."""
        failed = self.windows(self.of(path, failed=True)["ended"])
        of_kinds = [n for n, event in enumerate(self.events) if event.kind in kinds]
        return int(np.isin(failed, of_kinds).sum()) if kinds else len(failed)

    def findings(self) -> list[report.Finding]:
        """Return what was asked; without answers of a route nothing passes."""
        answered = all(len(self.of(path)) for path in RATES)
        failed, changes = "failed requests of", "from switches and rollbacks"
        counts = {
            f"{failed} {PREDICT}": self.failed(PREDICT),
            f"{failed} {INVOCATIONS}, {changes}": self.failed(INVOCATIONS, SWITCH, ROLLBACK),
            "answers of another model than they name": self.wrong,
        }
        unknown = float("nan")
        return [report.Finding(name, n if answered else unknown, 0) for name, n in counts.items()]

    def to_report(self) -> report.Report:
        """Return all tables, and what is written."""
        asked = report.asked_and_found(self.findings())
        grids = [asked, self.routes(), self.gaps(), self.failures()]
        return report.Report("resilience", self.about, __doc__, grids)

    def failures(self) -> report.Grid:
        """Return a line a route and cause."""
        failed = self.requests[self.requests["failure"].notna()]
        times = failed.groupby(["path", "failure"])["ended"].agg(["size", "min", "max"])
        during = ["the beginning", *(event.what for event in self.events)]
        rows = [
            [f"{path}: {cause}", count, first, last, during[self.windows(first) + 1]]
            for (path, cause), count, first, last in times.itertuples()
        ]
        columns = {"failure": "", "requests": ",", "first at s": ".1f", "last at s": ".1f"}
        return report.Grid("Failures", {**columns, "first during": ""}, rows)

    def routes(self) -> report.Grid:
        """Return a line a route: what became of its requests, and how fast."""
        rows: list[list[report.Cell]] = []
        for path in RATES:
            good, failed = self.of(path), self.failed(path)
            waits = 1e3 * (good["ended"] - good["due"]).quantile([0.5, 0.99, 1.0])
            versions = good["version"].value_counts().sort_index()
            by_version = ", ".join(f"{name}: {count:,}" for name, count in versions.items())
            counts = [len(good) + failed, failed, self.gap_s(path)]
            rows.append([path, *counts, *waits, by_version])
        columns = {"route": "", "requests": ",", "failed": ",", "longest gap s": ".2f"}
        columns |= {"median ms": ".1f", "p99 ms": ",.0f", "longest ms": ",.0f"}
        return report.Grid("Requests", {**columns, "answers by version": ""}, rows)

    def gaps(self) -> report.Grid:
        """Return a line an event: when it was, and the longest gaps meanwhile."""
        rows: list[list[report.Cell]] = [
            [event.what, event.begun, event.ended - event.begun, *(self.gap_s(p, n) for p in RATES)]
            for n, event in enumerate(self.events)
        ]
        numbers = ["at s", "took s", *(f"gap {path}" for path in RATES)]
        return report.Grid("Events", {"event": "", **dict.fromkeys(numbers, ".2f")}, rows)


def happen(
    kind: str, settings: DeploySettings, api: str, lock_s: float, started: float
) -> Happened:
    """Let one event happen to the installation that ``DEMAND_HOME`` names; wait for its end."""
    begun = time.monotonic()
    if kind == SWITCH:
        champion = Registry().champion()
        before = champion.version if champion else None
        version = next(each for each in VERSIONS if each != before)
        serve(version, settings)
        what = f"switch {before} → {version}"
    elif kind == ROLLBACK:
        what = f"rollback → {roll_back(None, 'benchmark', settings).version}"
    elif kind == KILL:
        what = f"SIGKILL to a worker of the model server of {_kill(api)}"
    else:
        what = f"registry locked for {lock_s:g} s"
        file = current_workspace().mlflow_database
        with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as database:
            database.execute("BEGIN EXCLUSIVE")
            time.sleep(lock_s)
    return Happened(kind, what, begun - started, time.monotonic() - started)


def _kill(api: str) -> str:
    """Kill a worker of the model server, and wait for it, so that the next event cuts no gap."""
    deployment = active()
    assert deployment is not None
    psutil.Process(deployment.server.pid).children()[0].kill()
    if not await_answer(api + INVOCATIONS, _BACK_S):
        raise ServingError(f"the model server was not back {_BACK_S:g} s after its end")
    return deployment.version


def serve(version: str, settings: DeploySettings) -> str:
    """Make a version champion and deploy it; return the endpoint."""
    Registry().promote(version, "benchmark")
    return roll_out(version, settings).endpoint


def measure(seconds: int, switches: int, say: report.Say) -> Journal:
    """Ask for so many seconds, and until the last event is over.

    In a temporary installation, which ``DEMAND_HOME`` names from then on.

    Raises
    ------
    DemandError
        A training or deployment fails, a server does not start, or a model server that was
        killed does not come back.
    """
    ads, events, kinds = new_ads(_ADS), [], events_of(switches)
    lock_s = _LOCK_S * min(1.0, seconds / SECONDS)
    with temporary_installation() as installation:
        os.environ["DEMAND_HOME"] = str(installation.home)
        settings = DeploySettings(port=installation.port)
        for number in range(len(VERSIONS)):
            say(f"training model {number + 1} quickly")
            installation.train(42 + number, champion=number == 0)
        try:
            say("deploying both in turn")
            # A deployment has proved that its server answers as its Predictor.
            expected = {v: answers(serve(v, settings), ads) for v in reversed(VERSIONS)}
            with (
                installation.api() as api,
                steady_load(api.address, ads, RATES) as (started, journal),
            ):
                for number, kind in enumerate(kinds):
                    sleep_until(started + (number + 0.5) * seconds / len(kinds))
                    events.append(happen(kind, settings, api.address, lock_s, started))
                    say(f"{events[-1].what}, {number + 1} of {len(kinds)}")
                sleep_until(started + seconds)
                found = journal()
        finally:
            stop()
    found[["due", "ended"]] -= started
    about = {**report.machine(), "seconds": seconds}
    return Journal(about, found, events, wrong_answers(found, expected))


def wrong_answers(found: pd.DataFrame, expected: Mapping[str, Sequence[float]]) -> int:
    """Count answers that are not those of the model whose version they name, or that name none."""
    good = found[found["failure"].isna()]
    asked = pd.MultiIndex.from_frame(good[["ad", "version"]])
    known = pd.DataFrame(expected).stack().reindex(asked)
    return int((~(np.abs(good["probability"] - known.to_numpy()) <= _TOLERANCE)).sum())


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    parser = report.program_parser(
        "resilience", __doc__, "--seconds 15 --switches 2 --quiet --results /tmp/resilience"
    )
    add, whole = parser.add_argument, whole_number(1, 3_600)
    lasts = "of the load; it goes on until the last event is over (default: 60)"
    add("--seconds", type=whole, default=SECONDS, help=lasts)
    add("--switches", type=whole, default=SWITCHES, help="of the champion (default: 10)")
    return report.run(parser, arguments, lambda **options: measure(**options).to_report())


if __name__ == "__main__":
    sys.exit(main())
