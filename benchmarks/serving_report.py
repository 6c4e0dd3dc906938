"""What was asked beside what was found, and the figures of the serving benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.quality_report import Grid, style
from demand.evaluation.plots import DOTS_PER_INCH, FAINT, INK, OTHER
from demand.evaluation.plots import OURS as OUR_COLOUR
from demand.state import write_aside, write_json

MODEL_SERVER, FLASK, EMPTY, PREDICTOR = (
    "our MLflow server",
    "Flask API",
    "empty MLflow model",
    "Predictor, in process",
)
NOTES = (
    "All contestants ran in the same rounds, one after the other and each round beginning with "
    "another, so that what else the machine did hit them alike. A figure is the median of its "
    "rounds, a ratio the median of the rounds' ratios; (least … most) of the rounds follows. "
    "The client writes whole bytes and reads lengths only, in one process of one thread. The "
    "empty model returns zeros behind our signature on `mlflow models serve`. Flask's answers "
    "carry interval and percentile besides, and it logs a line a request, as by default.",
)
_KINDS = {"single": "milliseconds", "load": "requests/s", "batches": "ads/s"}


@dataclass(frozen=True)
class Finding:
    """A figure and what was asked of it.

    Parameters
    ----------
    figure
        What was measured.
    found
        In ``unit``.
    asked
        The least or the most that passes.
    at_most
        Whether less is better.
    unit
        Follows the numbers; may be empty.
    spread
        Least and most of the rounds, where there were several.
    """

    figure: str
    found: float
    asked: float
    at_most: bool
    unit: str = ""
    spread: tuple[float, float] | None = None

    @property
    def passed(self) -> bool:
        """Whether what was asked was found; what is no number does not pass."""
        return self.found <= self.asked if self.at_most else self.found >= self.asked

    def row(self) -> tuple[str, ...]:
        """Return the cells of its line."""
        sign = "≤" if self.at_most else "≥"
        spread = "" if self.spread is None else " … ".join(map(number, self.spread))
        unit = f" {self.unit}" if self.unit else ""
        return (
            self.figure,
            f"{sign} {number(self.asked)}{unit}",
            f"{number(self.found)}{unit}",
            spread,
            "pass" if self.passed else "MISSED",
        )


@dataclass(frozen=True)
class Running:
    """What a server costs before the first request, and while it answers.

    Parameters
    ----------
    start_s
        From the start of its process to its first answer, by start; empty: not measured.
    resident_mb
        Memory of all its processes after the load; pages that several share count once.
    """

    start_s: list[float]
    resident_mb: float


@dataclass(frozen=True)
class Measured:
    """All that was measured, by contestant; a value a round.

    Parameters
    ----------
    about
        Machine and settings.
    single
        Seconds of every request of a single ad, a list a round.
    load
        Requests per second.
    batches
        Ads per second, in batches.
    one
        Seconds of every call of ``predict_one``, a list a round.
    running
        See :class:`Running`.
    """

    about: dict[str, str | int]
    single: dict[str, list[list[float]]]
    load: dict[str, list[float]]
    batches: dict[str, list[float]]
    one: list[list[float]]
    running: dict[str, Running]

    def findings(self) -> list[Finding]:
        """Return all that was asked."""
        single = {name: _medians(rounds) for name, rounds in self.single.items()}
        api = self.running[FLASK]
        starts = (min(api.start_s), max(api.start_s))
        latency, load = "median latency of a single ad", "requests/s at 16 connections"
        judged_in_one = [seconds * 1e6 for seconds in _medians(self.one)]
        return [
            _ratio(f"{latency}: our MLflow server / empty", single, MODEL_SERVER, EMPTY, 1.25),
            _ratio(f"{latency}: Flask / our MLflow server", single, FLASK, MODEL_SERVER, 0.5),
            _ratio(
                f"{load}: Flask / our MLflow server", self.load, FLASK, MODEL_SERVER, 3.0, False
            ),
            _rate(self.batches, PREDICTOR, 20_000),
            _rate(self.batches, MODEL_SERVER, 10_000),
            _rate(self.batches, FLASK, 10_000),
            Finding(
                "predict_one, median",
                float(np.median(judged_in_one)),
                400,
                True,
                "µs",
                _spread(judged_in_one),
            ),
            Finding("Flask, resident memory", api.resident_mb, 250, True, "MB"),
            Finding(
                "Flask, start to first answer", float(np.median(api.start_s)), 3, True, "s", starts
            ),
        ]

    def grids(self) -> list[Grid]:
        """Return all tables."""
        asked = Grid(
            "Asked and found",
            ("figure", "asked", "found", "rounds", ""),
            [finding.row() for finding in self.findings()],
        )
        single = Grid(
            "Single ads over one kept connection",
            ("", "requests", "median ms", "p99 ms"),
            [(name, *latency_cells(rounds)) for name, rounds in self.single.items()],
        )
        headings = ("", "median", "least", "most")
        load = Grid("Requests/s at 16 kept connections", headings, _rates(self.load))
        batches = Grid("Ads/s in batches of 1,000", headings, _rates(self.batches))
        running = Grid(
            "Processes",
            ("", "start to first answer, s", "memory, MB"),
            [
                (
                    name,
                    f"{np.median(found.start_s):.2f} "
                    f"({min(found.start_s):.2f} … {max(found.start_s):.2f})"
                    if found.start_s
                    else "",
                    f"{found.resident_mb:.0f}",
                )
                for name, found in self.running.items()
            ],
        )
        return [asked, single, load, batches, running]


def number(value: float) -> str:
    """Write a number with as many digits as a reader compares."""
    if not np.isfinite(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value != int(value) else f"{value:.0f}"


def latency_cells(rounds: Sequence[Sequence[float]]) -> tuple[str, str, str]:
    """Return number, median and 99th percentile (milliseconds) of the seconds of all rounds."""
    seconds = np.concatenate([np.asarray(each, dtype=float) for each in rounds])
    median, high = np.percentile(seconds, (50, 99)) * 1e3
    return f"{len(seconds):,}", f"{median:.2f}", f"{high:.2f}"


def _medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [float(np.median(each)) for each in rounds]


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _ratio(
    figure: str,
    rounds: dict[str, list[float]],
    one: str,
    other: str,
    asked: float,
    at_most: bool = True,
) -> Finding:
    ratios = [a / b for a, b in zip(rounds[one], rounds[other], strict=True)]
    return Finding(figure, float(np.median(ratios)), asked, at_most, "×", _spread(ratios))


def _rate(rounds: dict[str, list[float]], name: str, asked: float) -> Finding:
    found = rounds[name]
    title = f"batches of 1,000: {name}"
    return Finding(title, float(np.median(found)), asked, False, "ads/s", _spread(found))


def _rates(rounds: dict[str, list[float]]) -> list[tuple[str, ...]]:
    return [
        (name, f"{np.median(found):,.0f}", f"{min(found):,.0f}", f"{max(found):,.0f}")
        for name, found in rounds.items()
    ]


def write_serving(measured: Measured, folder: Path) -> Path:
    """Write ``serving.json``, ``serving.md`` and ``serving.png``; return the Markdown's path."""
    findings = measured.findings()
    write_json(
        folder / "serving.json",
        {
            "about": measured.about,
            "findings": [{**asdict(each), "passed": each.passed} for each in findings],
            "single_median_s": {name: _medians(each) for name, each in measured.single.items()},
            "single_p99_s": {
                name: [float(np.percentile(part, 99)) for part in each]
                for name, each in measured.single.items()
            },
            "requests_per_second": measured.load,
            "ads_per_second": measured.batches,
            "running": {name: asdict(each) for name, each in measured.running.items()},
        },
    )
    write_markdown(
        folder / "serving.md", "Serving", measured.about, NOTES, measured.grids(), "serving"
    )
    with write_aside(folder / "serving.png") as temporary:
        plot(measured).savefig(temporary, format="png")
    return folder / "serving.md"


def write_markdown(
    path: Path,
    title: str,
    about: dict[str, str | int],
    notes: Sequence[str],
    grids: Sequence[Grid],
    program: str,
) -> None:
    """Write tables below a title, the facts of the run, and a plot of the same name."""
    facts = ", ".join(f"{name} {value}" for name, value in about.items())
    lines = [f"# {title}", "", f"{facts}.", "", *notes, ""]
    lines += [f"Written by `python -m benchmarks.{program}`.", ""]
    lines += [f"![{title}]({path.with_suffix('.png').name})", ""]
    lines += [line for grid in grids for line in grid.markdown()]
    with write_aside(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def plot(measured: Measured) -> Figure:
    """Draw every round of every contestant, and their medians."""
    figure = Figure(figsize=(9.6, 2.4), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    milliseconds = {
        name: [seconds * 1e3 for seconds in _medians(rounds)]
        for name, rounds in measured.single.items()
    }
    shown = {"single": milliseconds, "load": measured.load, "batches": measured.batches}
    titles = {
        "single": "single ad, median (less is better)",
        "load": "16 connections (more is better)",
        "batches": "batches of 1,000 (more is better)",
    }
    for axes, (key, rounds) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        style(axes, label_size=7)
        for place, (name, values) in enumerate(reversed(rounds.items())):
            colour = OTHER if name == EMPTY else OUR_COLOUR
            axes.plot(values, [place] * len(values), "o", color=FAINT, markersize=4)
            axes.plot([np.median(values)], [place], "o", color=colour, markersize=7)
        axes.set_yticks(range(len(rounds)), list(reversed(rounds)))
        axes.set_ylim(-0.6, len(rounds) - 0.4)
        axes.set_xlim(left=0)
        axes.set_xlabel(_KINDS[key], color=INK, fontsize=8)
        axes.set_title(titles[key], color=INK, fontsize=8)
    return figure
