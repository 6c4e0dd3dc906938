"""What happens when far too many ask? ``python -m benchmarks.overload``.

Finds the rate of single ads that the Flask API sustains, by 16 connections that are all
answered; then many more ask by ``wrk``, each again as soon as it is answered or refused, and
beside them a steady caller, whose requests begin when they are due and whose latencies count
from then. What the many ask for is what they would send were each answered as fast as without
load. Normal are five of the caller's answers in a row whose median is at most twice that
without load, or 5 ms. Memory is that of all processes, a page that n of them share counted once.
The clients share the cores with the API, which lives in a temporary folder. Prints what was
found and writes it below benchmarks/results. Exit status 0, whatever it was.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.servers.installation import PREDICT, new_ads, temporary_installation
from benchmarks.servers.load import Load, sleep_until, steady_load, wrk
from cli.terminal import whole_number

OK, REFUSALS, LOST = (200,), (429, 503), (0,)
CONNECTIONS = 16
# Of the steady caller: requests per second, and those before the overload and after it.
_RATE, _QUIET_S, _AFTER_S = 50.0, 3.0, 10.0
_ADS, _SUSTAINED_S, _SAMPLE_S = 500, 5, 0.25
# Latencies below this come and go with what else the machine does.
_IN_A_ROW, _NOISE_S = 5, 0.005


@dataclass(frozen=True)
class Overload:
    """All that was measured; times are seconds from the overload's begin.

    ``sustainable`` are the requests per second that are all answered; ``caller`` are those of
    the steady caller before, in and after the overload: ``due``, ``waited``, ``status`` (0
    without an answer); ``memory`` are the API's resident megabytes from before to after it.
    """

    about: Mapping[str, str | float]
    sustainable: float
    flood: Load
    ended: float
    caller: pd.DataFrame
    memory: Sequence[float]

    def waits(self, *statuses: int) -> pd.Series[float]:
        """Return the seconds that the caller waited in the overload for these statuses."""
        within = self.caller["due"].between(0, self.ended)
        return self.caller.loc[within & self.caller["status"].isin(statuses), "waited"]

    @property
    def quiet_s(self) -> float:
        """Median latency before the overload."""
        before = self.caller[self.caller["due"] + self.caller["waited"] < 0]
        return float(before["waited"].median())

    @property
    def asked(self) -> float:
        """What the connections would send without load, in sustainable rates."""
        return float(self.about["connections"]) / self.quiet_s / self.sustainable

    @property
    def normal_again_s(self) -> float:
        """Seconds from the overload's end to the first of five normal answers; NaN: none came."""
        after = self.caller[self.caller["due"] >= self.ended].sort_values("due")
        # What is not answered with 200 is as good as never answered.
        waited = after["waited"].where(after["status"].isin(OK), np.inf)
        rows = waited[::-1].rolling(_IN_A_ROW)
        normal = (rows.median() <= max(2 * self.quiet_s, _NOISE_S)) & np.isfinite(rows.max())
        good = after[normal[::-1]]
        return float((good["due"] + good["waited"]).min() - self.ended)

    def findings(self) -> list[report.Finding]:
        """Return all that was asked."""
        slow = float(self.waits(*OK).quantile(0.99))
        return [
            report.Finding("asked for / sustainable", self.asked, 10, at_most=False, unit="×"),
            report.Finding("requests without any answer", self.flood.lost, 0),
            report.Finding("99th percentile of what is accepted", slow, 1, unit="s"),
            report.Finding("resident memory", max(self.memory), 250, unit="MB"),
            report.Finding("from the end to a normal latency", self.normal_again_s, 1, unit="s"),
        ]

    def to_report(self) -> report.Report:
        """Return all tables, and what is written."""
        flood = self.flood
        counts = {
            "answered in any way": sum(flood.statuses.values()),
            **{f"status {status}": count for status, count in sorted(flood.statuses.items())},
            "not 200, with Retry-After": flood.retry_after,
            "connection refused": flood.refused,
            "connection broken": flood.broken,
            "no answer within a minute": flood.silent,
        }
        rates = [
            ("sustainable", None, self.sustainable),
            ("asked for", None, self.asked * self.sustainable),
            *((name, count, count / flood.seconds) for name, count in counts.items()),
        ]
        became = [(*row, row[-1] / self.sustainable) for row in rates]
        waits = {"200": OK, "429 or 503": REFUSALS, "no answer": LOST}
        latencies = {name: 1e3 * self.waits(*statuses) for name, statuses in waits.items()}
        caller = [(n, len(found), *found.quantile([0.5, 0.99])) for n, found in latencies.items()]
        costs = [
            ("resident before, MB", self.memory[0]),
            ("resident at most, MB", max(self.memory)),
            ("resident after, MB", self.memory[-1]),
            ("median latency without load, ms", self.quiet_s * 1e3),
            ("seconds from the end to a normal latency", self.normal_again_s),
        ]
        columns = {"": "", "requests": ",", "per second": ",.0f", "of the sustainable": ".2f"}
        beside = {"": "", "requests": ",", "median ms": ",.1f", "p99 ms": ",.1f"}
        grids = [
            report.asked_and_found(self.findings()),
            report.Grid("What became of the requests", columns, became),
            report.Grid("A steady caller beside them", beside, caller),
            report.Grid("What it costs", {"": "", "found": "n"}, costs),
        ]
        return report.Report("overload", self.about, __doc__, grids)


def measure(seconds: int, connections: int, say: report.Say) -> Overload:
    """Find the sustainable rate of a temporary installation, and send all that can be sent.

    Raises
    ------
    ServingError
        The training fails, the API does not start, or it refuses what it sustains.
    """
    about = {**report.machine(), "seconds": seconds, "connections": connections}
    ads = new_ads(_ADS)
    with temporary_installation() as installation:
        say("training quickly")
        installation.train()
        with installation.api() as api:
            question = api.address + PREDICT, [[ad] for ad in ads]
            say(f"the sustainable rate, {CONNECTIONS} connections")
            wrk(*question, CONNECTIONS, 1)
            sustainable = wrk(*question, CONNECTIONS, _SUSTAINED_S).per_second
            with (
                steady_load(api.address, ads, {PREDICT: _RATE}) as (started, journal),
                ThreadPoolExecutor(1) as pool,
            ):
                sleep_until(started + _QUIET_S)
                say(f"{connections:,} connections for {seconds} s")
                memory, begun = [api.resident_mb()], time.monotonic()
                flood = pool.submit(wrk, *question, connections, seconds, all_good=False)
                while wait([flood], _SAMPLE_S).not_done:
                    memory.append(api.resident_mb())
                ended = time.monotonic() - begun
                time.sleep(_AFTER_S)
                memory.append(api.resident_mb())
                found = journal()
    found["waited"] = found["ended"] - found["due"]
    found["due"] -= begun
    return Overload(about, sustainable, flood.result(), ended, found, memory)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    parser = report.program_parser(
        "overload", __doc__, "--seconds 2 --quiet --results /tmp/overload"
    )
    add, whole, many = parser.add_argument, whole_number(1, 3_600), whole_number(16, 20_000)
    add("--seconds", type=whole, default=20, help="of the overload (default: 20)")
    add("--connections", type=many, default=1_000, help="open at a time (default: 1,000)")
    return report.run(parser, arguments, lambda **options: measure(**options).to_report())


if __name__ == "__main__":
    sys.exit(main())
