"""What happens when far too many ask? ``python -m benchmarks.overload``.

Finds the rate of single ads that the Flask API sustains, lets many more connections ask as fast
as they are answered, and a steady caller beside them; looks at what is refused, how fast, with
how much memory, and how soon all is normal again. All lives in a temporary folder. Prints it
and writes it below benchmarks/results. Exit status 0, whatever was found.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.installation import PREDICT, Server, new_ads, temporary_installation
from benchmarks.load import Load, steady_load, wrk
from cli.terminal import whole_number

OK, REFUSALS, LOST = (200,), (429, 503), (0,)
NOTES = (
    "The clients share the cores with the API, so part of what looks like the API's limit is "
    "their own work. The sustainable rate is that of 16 connections with one request each, all "
    "answered. In the overload, `wrk` keeps all connections busy: each asks again as soon as it "
    "is answered or refused. What they ask for is what they would send were each answered as "
    "fast as without load; while all of them wait, nothing is sent. Latencies are those of a "
    "caller beside them, whose requests begin when they are due, whatever the others wait for, "
    "and count from then. Normal are five of its answers in a row whose median is at most twice "
    "that without load, or 5 ms. Memory is that of all processes of the API, a page that n of "
    "them share counted once (*proportional set size*)."
)
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
    without an answer); ``memory`` are the API's resident megabytes by time, as long.
    """

    about: Mapping[str, str | float]
    sustainable: float
    flood: Load
    ended: float
    caller: pd.DataFrame
    memory: pd.Series[float]

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
            report.Finding("resident memory", float(self.memory.max()), 250, unit="MB"),
            report.Finding("from the end to a normal latency", self.normal_again_s, 1, unit="s"),
        ]

    def to_report(self) -> report.Report:
        """Return all tables, and what is written."""
        flood = self.flood
        became = {f"status {status}": count for status, count in sorted(flood.statuses.items())}
        became |= {
            "not 200, with Retry-After": flood.retry_after,
            "connection refused": flood.refused,
            "connection broken": flood.broken,
            "no answer within a minute": flood.silent,
        }
        counts = {"answered in any way": sum(flood.statuses.values()), **became}
        requests: list[list[report.Cell]] = [
            ["sustainable", None, self.sustainable, 1.0],
            ["asked for", None, self.asked * self.sustainable, self.asked],
        ]
        for name, count in counts.items():
            rate = count / flood.seconds
            requests.append([name, count, rate, rate / self.sustainable])
        waits: list[list[report.Cell]] = []
        for name, of in (("200", OK), ("429 or 503", REFUSALS), ("no answer", LOST)):
            found = self.waits(*of)
            waits.append([name, len(found), *(found.quantile([0.5, 0.99]) * 1e3)])
        costs: dict[str, float] = {
            "resident before, MB": self.memory.iloc[0],
            "resident at most, MB": self.memory.max(),
            "resident after, MB": self.memory.iloc[-1],
            "median latency without load, ms": self.quiet_s * 1e3,
            "seconds from the end to a normal latency": self.normal_again_s,
        }
        columns = {"": "", "requests": ",", "per second": ",.0f", "of the sustainable": ".2f"}
        latencies = {"": "", "requests": ",", "median ms": ",.1f", "p99 ms": ",.1f"}
        grids = [
            report.asked_and_found(self.findings()),
            report.Grid("What became of the requests", columns, requests),
            report.Grid("A steady caller beside them", latencies, waits),
            report.Grid("What it costs", {"": "", "found": "n"}, list(costs.items())),
        ]
        return report.Report("overload", self.about, NOTES, grids)


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
        bodies = installation.folder / "ads.jsonl"
        bodies.write_text("".join(json.dumps(ad) + "\n" for ad in ads), encoding="utf-8")
        with installation.api() as api:
            question = (api.address + PREDICT, bodies, "deal_probability")
            say(f"the sustainable rate, {CONNECTIONS} connections")
            wrk(*question, CONNECTIONS, 1)
            sustainable = wrk(*question, CONNECTIONS, _SUSTAINED_S).per_second
            with (
                steady_load(api.address, ads, {PREDICT: _RATE}) as (started, journal),
                _sampled_memory(api) as memory,
            ):
                time.sleep(max(0.0, started + _QUIET_S - time.monotonic()))
                say(f"{connections:,} connections for {seconds} s")
                begun = time.monotonic()
                flood = wrk(*question, connections, seconds, all_good=False)
                ended = time.monotonic() - begun
                time.sleep(_AFTER_S)
                found = journal()
    found["waited"] = found["ended"] - found["due"]
    found["due"] -= begun
    resident = pd.Series({moment - begun: megabytes for moment, megabytes in memory})
    return Overload(about, sustainable, flood, ended, found, resident)


@contextlib.contextmanager
def _sampled_memory(server: Server) -> Iterator[list[tuple[float, float]]]:
    """Yield a list that grows by times and what a server's processes hold then, in megabytes."""
    samples = [(time.monotonic(), server.resident_mb())]
    over = threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_S):
            samples.append((time.monotonic(), server.resident_mb()))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(sample)
        try:
            yield samples
        finally:
            over.set()


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    parser = report.program_parser(
        "overload", __doc__, "--seconds 2 --quiet --results /tmp/overload"
    )
    add, whole, many = parser.add_argument, whole_number(1, 3_600), whole_number(16, 20_000)
    add("--seconds", type=whole, default=20, help="of the overload (default: 20)")
    add("--connections", type=many, default=1_000, help="open at a time (default: 1,000)")
    return report.run(
        parser, arguments, lambda o, say: measure(o.seconds, o.connections, say).to_report()
    )


if __name__ == "__main__":
    sys.exit(main())
