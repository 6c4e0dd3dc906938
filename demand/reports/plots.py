"""The evaluation's plots as PNG bytes, drawn without pyplot and its global figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import ParamSpec

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

Parameters = ParamSpec("Parameters")

INK = "#24292f"
FAINT = "#d0d7de"
OURS = "#2f6f9f"
OTHER = "#d1793b"
DOTS_PER_INCH = 130  # as in the style
STYLE = Path(__file__).parent / "templates" / "plots.mplstyle"


def _png(draw: Callable[Parameters, Figure]) -> Callable[Parameters, bytes]:
    """Draw in one style, and render; the same figure gives the same bytes."""

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> bytes:
        buffer = BytesIO()
        with mpl.rc_context(fname=STYLE):
            draw(*args, **kwargs).savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    return drawn


@_png
def training_curve(curve: pd.DataFrame) -> Figure:
    """Draw each epoch's training loss and, below it, validation RMSE; lower is better.

    ``curve`` is of :meth:`demand.model.training.Training.curve`, a row an epoch. The epoch
    with the least validation RMSE is marked, the last of equal ones.
    """
    figure = Figure((6.4, 4.6))
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, column, colour in ((upper, "train_loss", OTHER), (lower, "validation_rmse", OURS)):
        axes.plot(curve["epoch"], curve[column], color=colour, marker="o", markersize=3)
    best = curve["validation_rmse"].min()
    for epoch in curve.loc[curve["validation_rmse"] == best, "epoch"].tail(1):
        lower.axvline(epoch, color=INK, linewidth=1, linestyle=":", label=f"best: {best:.4f}")
        lower.legend(loc="upper right")
    lower.locator_params(axis="x", integer=True)
    upper.set(title="Training curve", ylabel="training loss")
    lower.set(xlabel="epoch", ylabel="validation RMSE")
    return figure


@_png
def calibration(table: pd.DataFrame) -> Figure:
    """Draw a table of :func:`.metrics.calibration_table` beside the perfect line."""
    seen = table[["predicted_mean", "actual_mean"]].to_numpy(dtype=np.float64)
    top = min(1.0, 1.15 * float(np.nanmax(seen, initial=0.05)))
    figure = Figure((4.8, 4.4))
    axes = figure.add_subplot(title="Calibration", xlim=(0, top), ylim=(0, top), aspect="equal")
    axes.plot([0, top], [0, top], color=INK, linewidth=1, linestyle=":", label="perfect")
    axes.plot(seen[:, 0], seen[:, 1], color=OURS, marker="o", markersize=4.5, label="model")
    axes.set(xlabel="mean predicted probability", ylabel="mean deal probability")
    axes.legend()
    return figure


@_png
def error_by_category(categories: pd.DataFrame, overall_rmse: float, most: int = 30) -> Figure:
    """Draw the RMSE of the categories as bars, the worst first, beside that of all rows.

    Of the rows of :func:`demand.evaluation.slices.slice_errors`, ``value``, ``rows`` and
    ``rmse`` are used; the ``most`` worst are drawn.
    """
    worst = categories.sort_values("rmse", ascending=False).head(most).iloc[::-1]
    figure = Figure((7.2, 1.4 + 0.26 * max(len(worst), 3)))
    axes = figure.add_subplot(title="Error by category", xlabel="RMSE (lower is better)")
    colours = np.where(worst["rmse"].to_numpy(dtype=np.float64) > overall_rmse, OTHER, OURS)
    axes.barh(range(len(worst)), worst["rmse"], color=colours, height=0.7)
    if np.isfinite(overall_rmse):
        axes.axvline(overall_rmse, color=INK, linewidth=1, linestyle=":", label="all ads")
        axes.legend(loc="lower right")
    names = worst["value"].astype(str) + worst["rows"].map("  ({:,})".format)
    axes.set_yticks(range(len(worst)), names, parse_math=False)
    axes.set(xlim=(0, None), ylim=(-0.7, max(len(worst), 1) - 0.3))
    axes.grid(False, axis="y")
    return figure


@_png
def predicted_and_actual(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Figure:
    """Draw the histograms of truth and predictions, shape (rows,) each; NaN is not drawn."""
    figure = Figure((6.4, 3.8))
    axes = figure.add_subplot(title="Predicted and actual", xlabel="deal probability")
    edges = np.linspace(0.0, 1.0, 41).tolist()
    for values, label, colour in ((actual, "actual", OTHER), (predicted, "predicted", OURS)):
        numbers = np.asarray(values, dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        axes.hist(numbers, edges, label=label, color=colour, histtype="stepfilled", alpha=0.55)
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlim=(0, 1), ylim=(0, None), ylabel="ads (log scale)")
    axes.legend(loc="upper right")
    return figure


@_png
def readings(values: pd.DataFrame, limits: Mapping[str, float]) -> Figure:
    """Draw each column of values over the windows of the index, with its limit where it has one."""
    across = 3
    rows = -(-values.shape[1] // across)
    figure = Figure((3.0 * across, 2.0 * rows))
    panels = figure.subplots(rows, across, squeeze=False).ravel()
    for panel, name in zip(panels, map(str, values), strict=False):
        panel.plot(values.index, values[name], color=OURS, marker="o", markersize=3)
        if name in limits:
            panel.axhline(limits[name], color=OTHER, linewidth=1, linestyle=":")
        panel.set_title(name, fontsize=8)
        panel.tick_params(labelsize=6)
    for panel in panels[values.shape[1] :]:
        panel.set_visible(False)
    return figure
