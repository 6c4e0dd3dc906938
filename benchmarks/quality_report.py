"""The comparison for people and programs: tables, Markdown, JSON and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.quality_scores import OURS, MissingColumn, Score
from demand.evaluation.coverage import MeasuredCoverage
from demand.evaluation.plots import DOTS_PER_INCH, FAINT, INK, OTHER
from demand.evaluation.plots import OURS as OUR_COLOUR
from demand.metrics import Interval
from demand.state import write_aside, write_json

NOTES = (
    "RMSE: mean and standard deviation over the folds, then of all out-of-fold answers together. "
    "The intervals (95 %, paired bootstrap by seller) are of a model's RMSE less that of ours: "
    "positive where ours is better. Training: median seconds a fold, without the search of "
    "settings, which ran once inside the first fold's training ads. Prediction: in a batch of "
    "one fold, one thread. A model of several seeds is as slow and as large as all of them.",
)


@dataclass(frozen=True)
class Grid:
    """A table as text: written to the terminal and as Markdown from the same cells."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def table(self) -> Table:
        """Return it for the terminal."""
        table = Table(title=self.title, title_justify="left")
        for place, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if place else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> list[str]:
        """Return its lines in Markdown."""
        rule = "|---|" + "---:|" * (len(self.headings) - 1)
        lines = ["| " + " | ".join(row) + " |" for row in (self.headings, *self.rows)]
        return [f"## {self.title}", "", lines[0], rule, *lines[1:], ""]


@dataclass(frozen=True)
class Quality:
    """Everything that was measured.

    Parameters
    ----------
    about
        Ads, sellers, folds and seed.
    missing
        Of ours, where it was trained.
    calibration
        Tables of :func:`demand.metrics.calibration_table`, by the model's name.
    coverage
        Of the 80 % intervals, by the model's name.
    """

    about: dict[str, str | int]
    scores: list[Score]
    missing: list[MissingColumn]
    calibration: dict[str, pd.DataFrame]
    coverage: dict[str, MeasuredCoverage]

    def grids(self) -> list[Grid]:
        """Return all tables that have lines."""
        grids = [score_grid(self.scores)]
        if self.missing:
            grids.append(missing_grid(self.missing))
        grids += [calibration_grid(name, table) for name, table in self.calibration.items()]
        grids += [coverage_grid(name, found) for name, found in self.coverage.items()]
        return grids


def show(console: Console, grids: Sequence[Grid], written: Path) -> None:
    """Print tables, and where else they stand."""
    for grid in grids:
        console.print(grid.table())
    console.print(f"Also as {written} (and .json, .png).", soft_wrap=True)


def score_grid(scores: list[Score]) -> Grid:
    """Return a line a model."""
    trained = {score.key: score.name for score in scores}
    references = [key for key in OURS if key in trained]
    headings = (
        "model",
        "RMSE of folds",
        "RMSE",
        "MAE",
        "ECE",
        *(f"RMSE - {trained[key]}" for key in references),
        "train s",
        "µs/ad",
        "KB",
    )
    rows = [
        (
            score.name,
            f"{score.rmse_mean:.4f} ± {score.rmse_std:.4f}",
            f"{score.rmse:.4f}",
            f"{score.mae:.4f}",
            f"{score.calibration_error:.4f}",
            *(_interval(score.versus.get(key)) for key in references),
            f"{score.seconds:.1f}",
            f"{score.microseconds:.1f}",
            f"{score.kilobytes:,.0f}",
        )
        for score in scores
    ]
    return Grid("Quality by model", headings, rows)


def missing_grid(missing: list[MissingColumn]) -> Grid:
    """Return a line a column."""
    bound = missing[0].category_means
    rows = [
        (item.column, f"{item.rmse:.4f}", f"{item.change:+.4f}", "pass" if item.passed else "FAIL")
        for item in missing
    ]
    title = f"Ours where the test ads lack a column (category means: {bound:.4f})"
    return Grid(title, ("without", "RMSE", "change", ""), rows)


def calibration_grid(name: str, table: pd.DataFrame) -> Grid:
    """Return a line a bin."""
    rows = [
        (str(bin_), f"{rows}", f"{predicted:.4f}", f"{actual:.4f}", f"{predicted - actual:+.4f}")
        for bin_, predicted, actual, rows in table[
            ["bin", "predicted_mean", "actual_mean", "rows"]
        ].itertuples(index=False)
    ]
    headings = ("decile", "ads", "predicted", "actual", "difference")
    return Grid(f"Calibration of {name}", headings, rows)


def coverage_grid(name: str, found: MeasuredCoverage) -> Grid:
    """Return a line for all ads, and one for each large parent category."""
    rows = [("all", f"{found.overall:.1%}")]
    rows += [(parent, f"{share:.1%}") for parent, share in found.by_parent_category.items()]
    title = f"Outcomes within the 80 % intervals of {name} (mean width {found.width:.3f})"
    return Grid(title, ("parent category", "covered"), rows)


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.estimate:+.4f} ({interval.low:+.4f} … {interval.high:+.4f})"


def write_quality(quality: Quality, folder: Path) -> Path:
    """Write ``quality.json``, ``quality.md`` and ``quality.png``; return the Markdown's path."""
    write_json(
        folder / "quality.json",
        {
            "about": quality.about,
            "models": [asdict(score) for score in quality.scores],
            "missing_columns": [
                {**asdict(item), "passed": item.passed} for item in quality.missing
            ],
            "calibration": {
                name: table.to_dict(orient="records") for name, table in quality.calibration.items()
            },
            "coverage": {name: asdict(found) for name, found in quality.coverage.items()},
        },
    )
    about = ", ".join(f"{name} {value}" for name, value in quality.about.items())
    lines = ["# Quality beside the peers", "", f"{about}.", "", *NOTES, ""]
    lines += ["Written by `python -m benchmarks.quality`.", "", "![RMSE](quality.png)", ""]
    lines += [line for grid in quality.grids() for line in grid.markdown()]
    markdown = folder / "quality.md"
    with write_aside(markdown) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    with write_aside(folder / "quality.png") as temporary:
        plot(quality.scores).savefig(temporary, format="png")
    return markdown


def plot(scores: list[Score]) -> Figure:
    """Draw each model's RMSE, and the interval of its difference to ours; lower is better."""
    figure = Figure(
        figsize=(7.2, 1.2 + 0.34 * len(scores)), dpi=DOTS_PER_INCH, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ours = next((score for score in scores if score.key in OURS), None)
    for place, score in enumerate(reversed(scores)):
        if ours is not None and ours.key in score.versus:
            gap = score.versus[ours.key]
            ends = [ours.rmse + gap.low, ours.rmse + gap.high]
            axes.plot(ends, [place, place], color=FAINT, linewidth=4, solid_capstyle="round")
        colour = OUR_COLOUR if score.key.startswith(OURS[0]) else OTHER
        axes.plot([score.rmse], [place], "o", color=colour, markersize=6)
        axes.annotate(
            f"{score.rmse:.4f}",
            (score.rmse, place),
            xytext=(-13, 6),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    axes.set_yticks(np.arange(len(scores)), [score.name for score in reversed(scores)])
    axes.set_ylim(-0.7, len(scores) - 0.3)
    axes.margins(x=0.12)
    style(axes, label_size=8)
    axes.set_xlabel(
        "RMSE of all out-of-fold answers (lower is better); bar: 95 % interval of RMSE - ours",
        color=INK,
        fontsize=9,
    )
    return figure


def style(axes: Axes, label_size: int) -> None:
    """Give axes the looks of the project's other plots."""
    axes.grid(True, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=label_size, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
