"""From a flood of requests to figures: what was answered, what was refused, and the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.overload_client import FAILED, Flood, Outcome
from benchmarks.quality_report import Grid, style
from benchmarks.serving_report import number, write_markdown
from demand.evaluation.plots import DOTS_PER_INCH, INK, OTHER
from demand.evaluation.plots import OURS as OUR_COLOUR
from demand.state import write_aside, write_json

OK = 200
REFUSALS = (429, 503)
NOTES = (
    "The client shares the cores with the API, so part of what looks like the API's limit is the "
    "client's own work. The sustainable rate is that of 16 connections with one request each, "
    "all answered. In the overload a request is sent when it is due, whatever the others wait "
    "for; one that is due while every connection waits is never sent. A latency counts from the "
    "request, a new connection included. Normal are five answers in a row, a connection each, "
    "whose median is at most twice that without load, or 5 ms. Memory is that of all processes of "
    "the API, a page that n of them share counted once (*proportional set size*).",
)


@dataclass(frozen=True)
class Memory:
    """Resident megabytes of the API's processes together.

    Parameters
    ----------
    before, after
        Before the overload, and when the latency was normal again.
    samples
        Pairs of the time, of :func:`time.perf_counter`, and what was resident then; they
        begin before the load and end after it.
    """

    before: float
    after: float
    samples: Sequence[tuple[float, float]]

    @property
    def peak(self) -> float:
        """The most that was seen."""
        return max([self.before, self.after, *(megabytes for _, megabytes in self.samples)])


@dataclass(frozen=True)
class Overload:
    """All that was measured.

    Parameters
    ----------
    about
        Machine and settings.
    sustainable
        Requests per second, all answered.
    quiet_s
        Median latency without load, a connection a request.
    asked
        Requests per second that were due in the overload.
    flood
        The overload.
    memory
        Of the API.
    """

    about: dict[str, str | int]
    sustainable: float
    quiet_s: float
    asked: float
    flood: Flood
    memory: Memory

    def of(self, *statuses: int) -> list[Outcome]:
        """Return what ended with one of these statuses."""
        return [each for each in self.flood.outcomes if each.status in statuses]

    @property
    def seconds(self) -> float:
        """Length of the load."""
        return self.flood.ended - self.flood.begun

    @property
    def offered(self) -> float:
        """Requests per second that were sent."""
        return (len(self.flood.outcomes) + self.flood.silent) / self.seconds

    @property
    def answered(self) -> float:
        """Requests per second that got an answer of any kind while the load lasted."""
        whole = [each for each in self.flood.outcomes if each.status != FAILED]
        return sum(each.ended <= self.flood.ended for each in whole) / self.seconds

    @property
    def accepted(self) -> float:
        """Requests per second that were answered with a probability while the load lasted."""
        return sum(each.ended <= self.flood.ended for each in self.of(OK)) / self.seconds

    def grids(self) -> list[Grid]:
        """Return all tables."""
        flood, refused = self.flood, self.of(*REFUSALS)
        statuses = Counter(each.status for each in flood.outcomes)
        others = {
            status: count
            for status, count in sorted(statuses.items())
            if status not in (OK, *REFUSALS, FAILED)
        }
        rates = Grid(
            "Requests per second",
            ("", "", "of the sustainable rate"),
            [
                (name, f"{rate:,.0f}", f"{rate / self.sustainable:.2f}")
                for name, rate in (
                    ("sustainable, 16 connections", self.sustainable),
                    ("asked for", self.asked),
                    ("sent", self.offered),
                    ("answered in any way", self.answered),
                    ("answered with a probability", self.accepted),
                )
            ],
        )
        became = Grid(
            "What became of the requests",
            ("", "requests", "median ms", "p99 ms"),
            [
                ("200", *_cells(self.of(OK))),
                ("429 or 503", *_cells(refused)),
                ("of them with Retry-After", f"{sum(e.retry_after for e in refused):,}", "", ""),
                *((str(status), *_cells(self.of(status))) for status in others),
                ("connection refused or closed", *_cells(self.of(FAILED))),
                ("no answer within a minute", f"{flood.silent:,}", "", ""),
                ("never sent, all connections waited", f"{flood.unsent:,}", "", ""),
            ],
        )
        memory = self.memory
        back = Grid(
            "What it costs, and the way back",
            ("", ""),
            [
                ("resident before, MB", f"{memory.before:.0f}"),
                ("resident at most, MB", f"{memory.peak:.0f}"),
                ("resident after, MB", f"{memory.after:.0f}"),
                ("median latency without load, ms", f"{self.quiet_s * 1e3:.2f}"),
                ("seconds from the load's end to a normal latency", number(flood.normal_again_s)),
            ],
        )
        return [rates, became, back]


def _cells(outcomes: Sequence[Outcome]) -> tuple[str, str, str]:
    """Return how many, their median and 99th percentile in milliseconds."""
    if not outcomes:
        return "0", "–", "–"
    median, high = np.percentile([each.seconds for each in outcomes], (50, 99)) * 1e3
    return f"{len(outcomes):,}", f"{median:,.1f}", f"{high:,.1f}"


def write_overload(found: Overload, folder: Path) -> Path:
    """Write ``overload.json``, ``overload.md`` and ``overload.png``; return the Markdown's path."""
    flood, memory = found.flood, found.memory
    kinds = {"accepted": (OK,), "refused": REFUSALS, "failed": (FAILED,)}
    write_json(
        folder / "overload.json",
        {
            "about": found.about,
            "sustainable_per_s": found.sustainable,
            "asked_per_s": found.asked,
            "sent_per_s": found.offered,
            "answered_per_s": found.answered,
            "accepted_per_s": found.accepted,
            "statuses": dict(Counter(str(each.status) for each in flood.outcomes)),
            "refused_with_retry_after": sum(e.retry_after for e in found.of(*REFUSALS)),
            "silent": flood.silent,
            "never_sent": flood.unsent,
            "latency_ms": {name: _figures(found.of(*kind)) for name, kind in kinds.items()},
            "quiet_ms_p50": found.quiet_s * 1e3,
            "normal_again_s": None if np.isnan(flood.normal_again_s) else flood.normal_again_s,
            "resident_mb": {
                name: value
                for name, value in (asdict(memory) | {"peak": memory.peak}).items()
                if name != "samples"
            },
        },
    )
    write_markdown(
        folder / "overload.md", "Overload", found.about, NOTES, found.grids(), "overload"
    )
    with write_aside(folder / "overload.png") as temporary:
        plot(found).savefig(temporary, format="png")
    return folder / "overload.md"


def _figures(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    if not outcomes:
        return {"p50": None, "p99": None}
    median, high = np.percentile([each.seconds for each in outcomes], (50, 99)) * 1e3
    return {"p50": float(median), "p99": float(high)}


def plot(found: Overload) -> Figure:
    """Draw answers, latencies and memory over the seconds of the load."""
    figure = Figure(figsize=(9.6, 2.6), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    rates, latencies, memory = figure.subplots(1, 3)
    begun = found.flood.begun
    kinds = (("200", found.of(OK), OUR_COLOUR), ("429, 503", found.of(*REFUSALS), OTHER))
    last = max((each.ended for each in found.flood.outcomes), default=found.flood.ended) - begun
    edges = np.arange(0.0, max(last, found.seconds) + 0.5, 0.5)
    for name, outcomes, colour in kinds:
        ended = np.array([each.ended - begun for each in outcomes])
        rates.step(edges[:-1], np.histogram(ended, edges)[0] / 0.5, where="post", color=colour)
        latencies.plot(
            ended,
            [each.seconds * 1e3 for each in outcomes],
            ".",
            color=colour,
            markersize=1,
            label=name,
            rasterized=True,
        )
    latencies.legend(fontsize=7, frameon=False, markerscale=6)
    memory.plot(
        [at - begun for at, _ in found.memory.samples],
        [megabytes for _, megabytes in found.memory.samples],
        color=OUR_COLOUR,
    )
    titles = ("answers/s", "latency, ms", "resident, MB")
    for axes, title in zip((rates, latencies, memory), titles, strict=True):
        style(axes, label_size=7)
        axes.axvspan(0.0, found.seconds, color=OTHER, alpha=0.08, linewidth=0)
        axes.set_title(title, color=INK, fontsize=8)
        axes.set_xlabel("seconds; shaded: the load", color=INK, fontsize=8)
        axes.set_ylim(bottom=0)
    return figure
