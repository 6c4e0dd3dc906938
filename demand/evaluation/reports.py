"""The evaluation as files that people and programs open: tables, plots, a page."""

from __future__ import annotations

from pathlib import Path

from demand.evaluation import plots
from demand.evaluation.evaluate import Evaluation
from demand.evaluation.page import evaluation_page
from demand.state import write_aside


def write_evaluation(
    evaluation: Evaluation, folder: Path, *, training_curve: bytes | None = None
) -> Path:
    """Write tables, plots and a page about an evaluation; return the page's path.

    Written are ``calibration.csv``, ``compared.csv``, ``slices.csv``, ``calibration.png``,
    ``error_by_category.png``, ``predicted_and_actual.png``, ``training_curve.png`` where it
    is given, and ``evaluation.html``, which carries the plots in itself.

    Parameters
    ----------
    evaluation
        What :func:`demand.evaluation.evaluate.evaluate` returned.
    folder
        Created if absent. Files from before are replaced, each one whole.
    training_curve
        The PNG of :func:`demand.evaluation.plots.training_curve`.

    Raises
    ------
    StateError
        The folder cannot be written.
    """
    drawn = draw_plots(evaluation)
    if training_curve is not None:
        drawn["training_curve"] = training_curve
    tables = {
        "calibration": evaluation.calibration,
        "compared": evaluation.compared,
        "slices": evaluation.slices,
    }
    for name, table in tables.items():
        with write_aside(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, encoding="utf-8")
    for name, png in drawn.items():
        with write_aside(folder / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    page = folder / "evaluation.html"
    with write_aside(page) as temporary:
        temporary.write_text(evaluation_page(evaluation, drawn), encoding="utf-8")
    return page


def draw_plots(evaluation: Evaluation) -> dict[str, bytes]:
    """Draw the plots of an evaluation: PNG bytes by the name of the file."""
    slices = evaluation.slices
    categories = slices[slices["slice"] == "category_name"]
    return {
        "calibration": plots.calibration(evaluation.calibration),
        "error_by_category": plots.error_by_slice(
            categories, evaluation.metrics["rmse"], title="Error by category"
        ),
        "predicted_and_actual": plots.predicted_and_actual(evaluation.actual, evaluation.predicted),
    }
