"""The evaluation's plots as PNG bytes, drawn without pyplot and its global figures."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LegendPlace = Literal["best", "lower right", "upper right"]

INK = "#24292f"
FAINT = "#d0d7de"
OURS = "#2f6f9f"
OTHER = "#d1793b"
DOTS_PER_INCH = 130


def training_curve(curve: pd.DataFrame) -> bytes:
    """Draw each epoch's training loss and, below it, validation RMSE; lower is better.

    Parameters
    ----------
    curve
        A row an epoch, of :meth:`demand.trainer.Training.curve`: ``epoch``,
        ``train_loss``, ``validation_rmse``. The epoch with the least validation RMSE is
        marked, the last of equal ones.
    """
    figure = _figure(6.4, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, column, colour in ((upper, "train_loss", OTHER), (lower, "validation_rmse", OURS)):
        _style(axes)
        axes.plot(curve["epoch"], curve[column], color=colour, marker="o", markersize=3)
    best = curve["validation_rmse"].min()
    for epoch in curve.loc[curve["validation_rmse"] == best, "epoch"].tail(1):
        lower.axvline(epoch, color=INK, linewidth=1, linestyle=":", label=f"best: {best:.4f}")
    lower.locator_params(axis="x", integer=True)
    _label(upper, "Training curve", "", "training loss")
    _label(lower, "", "epoch", "validation RMSE")
    _legend(lower, "upper right")
    return _png(figure)


def calibration(table: pd.DataFrame) -> bytes:
    """Draw a table of :func:`demand.metrics.calibration_table` beside the perfect line."""
    figure, axes = _canvas(4.8, 4.4)
    seen = table[["predicted_mean", "actual_mean"]].to_numpy(dtype=np.float64)
    top = min(1.0, 1.15 * float(np.nanmax(seen, initial=0.05)))
    axes.plot([0, top], [0, top], color=INK, linewidth=1, linestyle=":", label="perfect")
    axes.plot(seen[:, 0], seen[:, 1], color=OURS, marker="o", markersize=4.5, label="model")
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_aspect("equal")
    _label(axes, "Calibration", "mean predicted probability", "mean deal probability")
    _legend(axes)
    return _png(figure)


def error_by_slice(
    slices: pd.DataFrame, overall_rmse: float, *, title: str, most: int = 30
) -> bytes:
    """Draw the RMSE of the values of one slice as bars, the worst first.

    Parameters
    ----------
    slices
        Rows of :func:`demand.evaluation.slices.slice_errors`; their ``value``, ``rows`` and
        ``rmse`` are used.
    overall_rmse
        Of all rows: the line to compare with.
    title
        Above the plot.
    most
        Only as many bars, the worst.
    """
    worst = slices.sort_values("rmse", ascending=False).head(most).iloc[::-1]
    figure, axes = _canvas(7.2, 1.4 + 0.26 * max(len(worst), 3))
    places = np.arange(len(worst))
    above = worst["rmse"].to_numpy(dtype=np.float64) > overall_rmse
    axes.barh(places, worst["rmse"], color=np.where(above, OTHER, OURS), height=0.7)
    if np.isfinite(overall_rmse):
        axes.axvline(overall_rmse, color=INK, linewidth=1, linestyle=":", label="all ads")
        _legend(axes, "lower right")
    names = [
        f"{value}  ({rows:,})" for value, rows in zip(worst["value"], worst["rows"], strict=True)
    ]
    axes.set_yticks(places, names, parse_math=False)
    axes.set_ylim(-0.7, max(len(worst), 1) - 0.3)
    axes.set_xlim(left=0)
    _label(axes, title, "RMSE (lower is better)", "")
    axes.grid(False, axis="y")
    return _png(figure)


def predicted_and_actual(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> bytes:
    """Draw the histograms of truth and predictions, shape (rows,) each; NaN is not drawn."""
    figure, axes = _canvas(6.4, 3.8)
    edges = np.linspace(0.0, 1.0, 41).tolist()
    for values, label, colour in ((actual, "actual", OTHER), (predicted, "predicted", OURS)):
        numbers = np.asarray(values, dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        axes.hist(numbers, edges, label=label, color=colour, histtype="stepfilled", alpha=0.55)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 1)
    _label(axes, "Predicted and actual", "deal probability", "ads (log scale)")
    _legend(axes, "upper right")
    return _png(figure)


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of ``width`` by ``height`` inches, and its styled axes."""
    figure = _figure(width, height)
    axes = figure.add_subplot()
    _style(axes)
    return figure, axes


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of ``width`` by ``height`` inches that pyplot does not know."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor("white")
    return figure


def _style(axes: Axes) -> None:
    """Give axes a faint grid below the data and two faint spines."""
    axes.set_facecolor("white")
    axes.set_axisbelow(True)
    axes.grid(True, color=FAINT, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    """Write title and axis labels, none of them read as a formula."""
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold", parse_math=False)
    axes.set_xlabel(x, color=INK, fontsize=9)
    axes.set_ylabel(y, color=INK, fontsize=9)
    axes.tick_params(colors=INK, labelsize=8, length=0)


def _legend(axes: Axes, place: LegendPlace = "best") -> None:
    """Draw a quiet legend where anything carries a label."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=place, frameon=False, fontsize=8, labelcolor=INK)


def _png(figure: Figure) -> bytes:
    """Render a figure; the same figure gives the same bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
