"""How fast are the answers, and what do they cost? ``python -m benchmarks.serving``.

Measures our MLflow model server, the Flask API and an MLflow model that returns zeros behind
our signature, all in the same rounds of a second, each round beginning with another, so that
what else the machine does hits them alike: single ads, 16 connections, batches of 1,000 ads by
``wrk`` on the same cores. Every answer's status and every hundredth one's content are checked.
A figure is the median of its rounds, a ratio the median of the rounds' ratios; least … most of
the rounds follow. Flask's answers carry interval and percentile besides, and it logs a line a
request, as by default; both servers of ours log their predictions, and Flask is measured without
that, too. Memory is that of all processes, a page that n of them share counted
once; a start ends with the first answer. With ``--before FOLDER`` also the two of another
checkout, such as a git worktree of an older commit.

All lives in a temporary folder. Prints what was asked beside what was found and writes it below
benchmarks/results. Exit status 0: figures of a busy machine are no test.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks import report
from benchmarks.servers.installation import (
    INVOCATIONS,
    PREDICT,
    Ads,
    Server,
    new_ads,
    temporary_installation,
)
from benchmarks.servers.load import Load, wrk
from cli.terminal import whole_number
from demand.workspace.workspace import PROJECT_ROOT

MODEL_SERVER, FLASK, EMPTY = "our MLflow server", "Flask API", "empty MLflow model"
UNLOGGED, BEFORE = f"{FLASK}, no log", ", before"
CONNECTIONS = 16
SINGLES, BATCH, BATCHES, STARTS = 500, 1_000, 4, 3
LATENCY, HIGH = "one ad over a kept connection, median ms", "99th percentile, ms"
RATE, ADS = "requests/s at 16 connections", "ads/s in batches of 1,000"
MEMORY, START = "resident, MB", "start to first answer, s"
FIGURES = (LATENCY, HIGH, RATE, ADS, MEMORY, START)


@dataclass(frozen=True)
class Measured:
    """All that was measured: a table of figure (of :data:`FIGURES`), server, round, found."""

    about: Mapping[str, str | float]
    rounds: pd.DataFrame

    def servers(self) -> list[str]:
        """Return the servers in their order."""
        return list(self.rounds["server"].unique())

    def of(self, figure: str) -> pd.DataFrame:
        """Return a figure of all rounds, a row a round, a column a server."""
        return self.table().loc[[figure]].droplevel("figure")

    def table(self) -> pd.DataFrame:
        """Return all that was found, a row a figure and round, a column a server."""
        table = self.rounds.pivot(index=["figure", "round"], columns="server", values="found")
        return table.loc[list(FIGURES), self.servers()]

    def findings(self) -> list[report.Finding]:
        """Return all that was asked; what was asked beside ``before`` only if that ran."""
        asked: list[tuple[str, str, str | None, float, bool]] = [
            (LATENCY, MODEL_SERVER, EMPTY, 1.25, True),
            (LATENCY, FLASK, MODEL_SERVER, 0.5, True),
            (RATE, FLASK, MODEL_SERVER, 3.0, False),
            (LATENCY, FLASK, UNLOGGED, 1.05, True),
            (RATE, FLASK, UNLOGGED, 0.95, False),
            (ADS, MODEL_SERVER, None, 10_000, False),
            (ADS, FLASK, None, 10_000, False),
            (MEMORY, FLASK, None, 250, True),
            (START, FLASK, None, 3, True),
        ]
        if FLASK + BEFORE in self.servers():
            asked += [
                (RATE, FLASK, FLASK + BEFORE, 1.0, False),
                (LATENCY, MODEL_SERVER, MODEL_SERVER + BEFORE, 1.1, True),
                (RATE, MODEL_SERVER, MODEL_SERVER + BEFORE, 0.9, False),
                (ADS, MODEL_SERVER, MODEL_SERVER + BEFORE, 0.9, False),
            ]
        return [self._finding(*each) for each in asked]

    def _finding(
        self, figure: str, one: str, other: str | None, asked: float, at_most: bool
    ) -> report.Finding:
        """Judge a server's figure, or its ratio to another one's in the same rounds."""
        rounds, name, unit = self.of(figure)[one], f"{figure}: {one}", ""
        if other is not None:
            rounds, name, unit = rounds / self.of(figure)[other], f"{name} / {other}", "×"
        spread = (rounds.min(), rounds.max()) if len(rounds) > 1 else None
        return report.Finding(name, rounds.median(), asked, at_most, unit, spread)

    def to_report(self) -> report.Report:
        """Return all tables, and what is written."""
        columns = {"": "", **dict.fromkeys(self.servers(), "n")}
        medians = [(figure, *self.of(figure).median()) for figure in FIGURES]
        every = [(f"{name}, round {n + 1}", *row) for (name, n), *row in self.table().itertuples()]
        asked = report.asked_and_found(self.findings())
        grids = [asked, report.Grid("Side by side", columns, medians)]
        details = [report.Grid("All rounds", columns, every)]
        return report.Report("serving", self.about, __doc__, grids, details)


def in_turn(names: Iterable[str], rounds: int) -> list[tuple[int, str]]:
    """Return each name once a round; nobody always comes after the same one."""
    order = list(names)
    places = range(len(order))
    return [(n, order[(n + place) % len(order)]) for n in range(rounds) for place in places]


def measure(before: Path | None, seconds: int, say: report.Say) -> Measured:
    """Start all servers, also those of the checkout ``before``, and measure them.

    Each measurement takes so many seconds of each server.

    Raises
    ------
    ServingError
        A server does not train or start, or answers something else than predictions.
    """
    about = {**report.machine(), "rounds of a second": seconds, "before": str(before or "none")}
    rows: list[tuple[str, str, int, float]] = []
    servers: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:
        for checkout, suffix in ((PROJECT_ROOT, ""), (before, BEFORE)):
            if checkout is None:
                continue
            place = stack.enter_context(temporary_installation(checkout))
            say(f"training quickly in {checkout}")
            place.train()
            starters = {MODEL_SERVER + suffix: place.model_server, FLASK + suffix: place.api}
            if not suffix:
                starters |= {UNLOGGED: partial(place.api, logged=False), EMPTY: place.empty}
            for name, starter in starters.items():
                say(f"starting {name}, {STARTS} times")
                for number in range(STARTS - 1):
                    with starter() as server:
                        rows.append((START, name, number, server.start_s))
                servers[name] = stack.enter_context(starter())
                rows.append((START, name, STARTS - 1, servers[name].start_s))
        ads = new_ads(BATCH * BATCHES)
        singles = [[ad] for ad in ads[:SINGLES]]
        batches = [ads[first : first + BATCH] for first in range(0, len(ads), BATCH)]

        def load(name: str, parts: list[Ads], connections: int = 1) -> Load:
            path = PREDICT if name.startswith(FLASK) else INVOCATIONS
            return wrk(servers[name].address + path, parts, connections, 1)

        for name in servers:  # to warm up
            load(name, singles)
            load(name, batches)
        say("single ads, 16 connections, batches")
        for number, name in in_turn(servers, seconds):
            one = load(name, singles)
            rows += [
                (LATENCY, name, number, one.p50_s * 1e3),
                (HIGH, name, number, one.p99_s * 1e3),
                (RATE, name, number, load(name, singles, CONNECTIONS).per_second),
                (ADS, name, number, BATCH * load(name, batches).per_second),
            ]
        rows += [(MEMORY, name, 0, server.resident_mb()) for name, server in servers.items()]
    return Measured(about, pd.DataFrame(rows, columns=["figure", "server", "round", "found"]))


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    parser = report.program_parser(
        "serving", __doc__, "--seconds 5", "--before ../older --quiet --results /tmp/serving"
    )
    add, seconds = parser.add_argument, whole_number(1, 3_600)
    add("--seconds", type=seconds, default=5, help="of each measurement (default: 5)")
    other = "another checkout, whose servers are measured too, with this interpreter"
    add("--before", type=Path, metavar="FOLDER", help=other)
    return report.run(parser, arguments, lambda **options: measure(**options).to_report())


if __name__ == "__main__":
    sys.exit(main())
