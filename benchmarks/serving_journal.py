"""From the journal of a load to figures: failures, gaps, versions, and what each event did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.quality_report import Grid, style
from benchmarks.serving_load import Answered
from benchmarks.serving_report import write_markdown
from demand.evaluation.plots import DOTS_PER_INCH, INK, OTHER
from demand.evaluation.plots import OURS as OUR_COLOUR
from demand.state import write_aside, write_json

PREDICT, INVOCATIONS = "/predict", "/invocations"
SWITCH, ROLLBACK, KILL, LOCK = "switch", "rollback", "SIGKILL", "registry locked"
NOTES = (
    "Requests begin when they are due, whatever the others wait for. A gap is the time between "
    "two answers (200) of a route that came one after the other; it is of the event in whose "
    "window its middle lies. A window ends where the next one begins.",
)
# More lines than a reader looks at; all are in the JSON.
_FAILURES_SHOWN = 20


@dataclass(frozen=True)
class Happened:
    """An event during the load; times are of :func:`time.monotonic`.

    Parameters
    ----------
    kind
        Such as ``SWITCH``.
    what
        In words.
    begun, ended
        When.
    version
        Champion from then on, where that changed.
    """

    kind: str
    what: str
    begun: float
    ended: float
    version: str | None = None


@dataclass(frozen=True)
class Failures:
    """Requests of a route that failed for the same cause.

    Parameters
    ----------
    path, cause
        Of the route, and why.
    requests
        How many.
    first_s, last_s
        When the first and the last of them failed, in seconds of the load.
    during
        Event in whose window the first of them failed.
    """

    path: str
    cause: str
    requests: int
    first_s: float
    last_s: float
    during: str


@dataclass(frozen=True)
class Journal:
    """What became of all requests, and what happened meanwhile.

    Parameters
    ----------
    about
        Machine and settings.
    started
        When the load began.
    answered
        All requests.
    events
        In their order.
    wrong
        Answers that are not those of the version that they name.
    """

    about: dict[str, str | int]
    started: float
    answered: Sequence[Answered]
    events: Sequence[Happened]
    wrong: int = 0

    def of(self, path: str) -> list[Answered]:
        """Return the requests of a route."""
        return [each for each in self.answered if each.path == path]

    def gap_s(self, path: str, begin: float = -np.inf, end: float = np.inf) -> float:
        """Return the longest gap between two answers of a route; NaN where there is none.

        Parameters
        ----------
        begin, end
            The window that the middle of a gap must lie in.
        """
        times = np.sort([each.ended for each in self.of(path) if each.failure is None])
        middles = (times[:-1] + times[1:]) / 2
        gaps = np.diff(times)[(begin <= middles) & (middles < end)]
        return float(gaps.max()) if len(gaps) else float("nan")

    def windows(self) -> list[tuple[Happened, float]]:
        """Return each event with the end of its window."""
        ends = [*(event.begun for event in self.events[1:]), np.inf]
        return list(zip(self.events, ends, strict=True))

    def during(self, moment: float) -> Happened | None:
        """Return the event in whose window a moment lies; None before the first one."""
        return next((each for each, end in self.windows() if each.begun <= moment < end), None)

    def failures(self) -> list[Failures]:
        """Return what failed, by route and cause."""
        groups: dict[tuple[str, str], list[float]] = {}
        for each in self.answered:
            if each.failure is not None:
                groups.setdefault((each.path, each.failure), []).append(each.ended)
        found = []
        for (path, cause), times in groups.items():
            event = self.during(min(times))
            first, last = min(times) - self.started, max(times) - self.started
            name = "the beginning" if event is None else event.what
            found.append(Failures(path, cause, len(times), first, last, name))
        return sorted(found, key=lambda each: (each.path, each.first_s))

    def failed(self, path: str, kinds: Sequence[str] | None = None) -> int:
        """Count the failed requests of a route, in the windows of some kinds of events."""
        times = [each.ended for each in self.of(path) if each.failure is not None]
        events = [self.during(time) for time in times]
        return sum(kinds is None or (each is not None and each.kind in kinds) for each in events)

    def follows_s(self, event: Happened, path: str) -> float:
        """Return the seconds from an event to the first answer of its version; NaN: none came."""
        times = [
            each.ended - event.begun
            for each in self.of(path)
            if each.version == event.version and each.begun >= event.begun
        ]
        return min(times, default=float("nan"))

    def asked(self) -> list[tuple[str, str, str, str]]:
        """Return what was asked, found, and whether it passed."""
        answered = all(self.of(path) for path in (PREDICT, INVOCATIONS))
        counted = [
            ("failed requests of /predict", self.failed(PREDICT)),
            (
                "failed requests of /invocations, from switches and rollbacks",
                self.failed(INVOCATIONS, (SWITCH, ROLLBACK)),
            ),
            ("answers of another model than they name", self.wrong),
        ]
        return [
            (name, "0", f"{found}", "pass" if answered and not found else "MISSED")
            for name, found in counted
        ]

    def grids(self) -> list[Grid]:
        """Return all tables that have lines."""
        grids = [Grid("Asked and found", ("", "asked", "found", "passed"), self.asked())]
        grids.append(self._routes())
        grids.append(self._events())
        if failures := self.failures():
            rows = [
                (
                    f"{each.path}: {each.cause}",
                    f"{each.requests}",
                    f"{each.first_s:.1f} … {each.last_s:.1f}",
                    each.during,
                )
                for each in failures[:_FAILURES_SHOWN]
            ]
            grids.append(Grid("Failures", ("", "requests", "at second", "first during"), rows))
        return grids

    def _routes(self) -> Grid:
        rows = []
        for path in (PREDICT, INVOCATIONS):
            here = self.of(path)
            waits = [each.ended - each.due for each in here if each.failure is None]
            median, high = np.percentile(waits, (50, 99)) if waits else (np.nan, np.nan)
            versions = Counter(each.version for each in here if each.version is not None)
            rows.append(
                (
                    path,
                    f"{len(here):,}",
                    f"{self.failed(path)}",
                    f"{self.gap_s(path):.2f}",
                    f"{median * 1e3:.1f}",
                    f"{high * 1e3:.0f}",
                    f"{max(waits, default=np.nan) * 1e3:.0f}",
                    ", ".join(f"{name}: {n:,}" for name, n in sorted(versions.items())),
                )
            )
        headings = ("route", "requests", "failed", "longest gap s", "median ms", "p99 ms")
        return Grid("Requests", (*headings, "longest ms", "answers by version"), rows)

    def _events(self) -> Grid:
        rows = []
        for event, end in self.windows():
            follows = [
                "–" if event.version is None else f"{self.follows_s(event, path):.2f}"
                for path in (PREDICT, INVOCATIONS)
            ]
            gaps = [f"{self.gap_s(path, event.begun, end):.2f}" for path in (PREDICT, INVOCATIONS)]
            at, took = event.begun - self.started, event.ended - event.begun
            rows.append((event.what, f"{at:.1f}", f"{took:.2f}", *gaps, *follows))
        headings = ("event", "at s", "took s", "gap /predict", "gap /invocations")
        return Grid("Events", (*headings, "/predict follows s", "/invocations follows s"), rows)


def write_journal(journal: Journal, folder: Path) -> Path:
    """Write ``resilience.json``, ``.md`` and ``.png``; return the Markdown's path."""
    write_json(
        folder / "resilience.json",
        {
            "about": journal.about,
            "asked": [
                dict(zip(("figure", "asked", "found", "passed"), row, strict=True))
                for row in journal.asked()
            ],
            "failures": [asdict(each) for each in journal.failures()],
            "routes": {
                path: {
                    "requests": len(journal.of(path)),
                    "failed": journal.failed(path),
                    "longest_gap_s": _or_none(journal.gap_s(path)),
                }
                for path in (PREDICT, INVOCATIONS)
            },
            "events": [
                {
                    **asdict(event),
                    "begun": event.begun - journal.started,
                    "ended": event.ended - journal.started,
                    "gap_predict_s": _or_none(journal.gap_s(PREDICT, event.begun, end)),
                    "gap_invocations_s": _or_none(journal.gap_s(INVOCATIONS, event.begun, end)),
                }
                for event, end in journal.windows()
            ],
        },
    )
    written = folder / "resilience.md"
    write_markdown(written, "Resilience", journal.about, NOTES, journal.grids(), "resilience")
    with write_aside(folder / "resilience.png") as temporary:
        plot(journal).savefig(temporary, format="png")
    return written


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def plot(journal: Journal) -> Figure:
    """Draw how long every request took, by route, with the events below it."""
    figure = Figure(figsize=(9.6, 4.2), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    style(upper, label_size=7)
    for path, colour in ((INVOCATIONS, OTHER), (PREDICT, OUR_COLOUR)):
        here = [each for each in journal.of(path) if each.failure is None]
        at = [each.due - journal.started for each in here]
        took = [(each.ended - each.due) * 1e3 for each in here]
        upper.plot(at, took, ".", color=colour, markersize=2, label=path)
        failed = [each.due - journal.started for each in journal.of(path) if each.failure]
        upper.plot(failed, [1.0] * len(failed), "x", color=colour, markersize=6)
    upper.set_yscale("log")
    upper.set_ylabel("ms to the answer (x: failed)", color=INK, fontsize=8)
    upper.legend(fontsize=7, markerscale=4, frameon=False, loc="upper left")
    style(lower, label_size=7)
    kinds = (LOCK, KILL, ROLLBACK, SWITCH)
    for event in journal.events:
        begun, ended = event.begun - journal.started, event.ended - journal.started
        place = kinds.index(event.kind)
        lower.plot([begun, ended], [place, place], color=INK, linewidth=5, solid_capstyle="butt")
    lower.set_yticks(range(len(kinds)), kinds)
    lower.set_ylim(-0.6, len(kinds) - 0.4)
    lower.set_xlabel("seconds of the load", color=INK, fontsize=8)
    return figure
