"""Checks of the error by slice, and the slices on which the old report's model was weak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.ads import INPUT_COLUMNS, TARGET
from demand.checks.probe import Check, Floats, Outcome, one_line
from demand.config import CheckSettings
from demand.evaluation.slices import slice_errors, standard_slices
from demand.metrics import regression_metrics

_CHILDREN = ("Товары для детей и игрушки", "Детская одежда и обувь")
_TRANSPORT = "Транспорт"

# Each check, and the divisions of demand.evaluation.slices.standard_slices that it judges.
_JUDGED: dict[str, tuple[str, ...]] = {
    "slice_parent_category": ("parent_category_name",),
    "slice_seller_type": ("user_type",),
    "slice_missing_params": ("param_1_given", "param_2_given", "param_3_given"),
    "slice_price_decile": ("price_decile",),
    "slice_text_length": ("text_quartile",),
}
REPORTED = "slice_reported"
SLICE_NAMES = (*_JUDGED, REPORTED)
# Slices of fewer rows are shown, not judged: their order is mostly luck.
_REPORTED_ROWS_MIN = 50
# Divisions whose slices are the same in any rows: those of quantiles are not.
_COMPARABLE = ("parent_category_name", "user_type", *_JUDGED["slice_missing_params"])


@dataclass(frozen=True)
class Excess:
    """Error of a slice: its RMSE, and MSE and MAE over those of all rows (0.91: 91 % more)."""

    rmse: float
    mse: float
    mae: float


@dataclass(frozen=True)
class ReportedSlice:
    """A slice that the old report found weak: what it said, and how it is now."""

    name: str
    reported: str
    rows: int
    ours: Excess | None
    baseline: Excess | None


def _complete(ads: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that are absent, empty."""
    absent = [c for c in INPUT_COLUMNS if c.name not in ads]
    empty = {c.name: np.nan if c.kind in ("number", "integer") else None for c in absent}
    return ads.assign(**empty) if absent else ads


def _divisions(ads: pd.DataFrame) -> dict[str, pd.Series]:
    divisions = standard_slices(_complete(ads))
    return {name: divisions[name] for names in _JUDGED.values() for name in names}


def judged_slices(
    test: pd.DataFrame, predicted: Floats, train: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Measure the error on each slice that the checks judge.

    Parameters
    ----------
    test
        Labelled test rows, n of them.
    predicted
        Predictions, shape (n,).
    train
        Training rows, to say how many of a slice the model has seen.

    Returns
    -------
    DataFrame
        The columns of :func:`demand.evaluation.slices.slice_errors` and ``train_rows`` (NaN where
        unknown); by division, the largest error first.
    """
    table = slice_errors(test[TARGET].to_numpy(), predicted, _divisions(test))
    table["train_rows"] = np.nan
    if train is not None:
        divisions = _divisions(train)
        seen = {name: divisions[name].value_counts() for name in _COMPARABLE}
        table["train_rows"] = [
            float(seen[name].get(value, 0)) if name in seen else np.nan
            for name, value in zip(table["slice"], table["value"], strict=True)
        ]
    order = {name: place for place, name in enumerate(table["slice"].unique())}
    return table.sort_values(
        ["slice", "rmse"],
        key=lambda column: column.map(order) if column.name == "slice" else -column,
        kind="stable",
        ignore_index=True,
    )


def slice_checks(slices: Callable[[], pd.DataFrame], settings: CheckSettings) -> list[Check]:
    """Return one check for each name: its worst slice of enough rows against the bound.

    Parameters
    ----------
    slices
        :func:`judged_slices`, called when a check runs; may raise as the model does.
    settings
        ``slice_min_rows`` and ``slice_rmse_ratio_max``.
    """
    limit, least = settings.slice_rmse_ratio_max, settings.slice_min_rows

    def measure(divisions: tuple[str, ...]) -> Outcome:
        table = slices()
        judged = table[table["slice"].isin(divisions) & (table["rows"] >= least)]
        if judged.empty:
            return Outcome(True, f"not judged: no slice has {least} rows")
        worst = judged.iloc[int(np.argmax(judged["rmse"].fillna(np.inf)))]
        if worst["rmse"] == 0.0:
            return Outcome(True, "no error at all", 0.0)
        ratio = float(worst["ratio"])
        words = (
            f"worst of {len(judged)} slices: {worst['slice']} {one_line(worst['value'], 60)!r}, "
            f"{worst['rows']} rows, RMSE {worst['rmse']:.4f}, {ratio:.2f} times that of all"
        )
        return Outcome(ratio <= limit, words, ratio)  # NaN is not within the bound

    demanded = f"at most {limit:g} times, on slices of {least} rows or more"
    return [
        Check(name, demanded, "slice", partial(measure, divisions))
        for name, divisions in _JUDGED.items()
    ]


def reported_check(slices: Callable[[], tuple[ReportedSlice, ...]]) -> Check:
    """Return the check that the model is not worse than the baseline where that is weak.

    Parameters
    ----------
    slices
        :func:`reported_slices`, called when the check runs; may raise as the model does.
    """

    def measure() -> Outcome:
        compared = [
            (slice_.name, slice_.rows, slice_.ours.rmse, slice_.baseline.rmse)
            for slice_ in slices()
            if slice_.rows >= _REPORTED_ROWS_MIN and slice_.ours and slice_.baseline
        ]
        if not compared:
            return Outcome(True, "not judged: no answers of the report's MLP, or too few rows")
        name, rows, ours, theirs = max(compared, key=lambda found: found[2] - found[3])
        words = (
            f"worst of {len(compared)} slices: {name}, {rows} rows, "
            f"RMSE {ours:.4f} against {theirs:.4f}"
        )
        return Outcome(bool(ours <= theirs), words, ours - theirs)

    demanded = "an RMSE of at most that of the report's MLP on the slices that it was weak on"
    return Check(REPORTED, demanded, "slice", measure)


def reported_slices(
    test: pd.DataFrame, predicted: Floats, baseline: Floats | None
) -> tuple[ReportedSlice, ...]:
    """Measure the slices on which the old report's MLP was weak.

    Parameters
    ----------
    test
        Labelled test rows, n of them.
    predicted, baseline
        Predictions of the model and of the baseline, shape (n,) each.
    """
    ads = _complete(test)
    actual = test[TARGET].to_numpy(dtype=np.float64)
    chosen = {
        ("children's goods", "+91 % MSE"): ads["category_name"].isin(_CHILDREN),
        ("transport", "+54 % MAE"): ads["parent_category_name"] == _TRANSPORT,
        ("param_2 missing", "+35 %"): ads["param_2"].isna(),
        ("param_3 missing", "+28 %"): ads["param_3"].isna(),
    }
    found = []
    for (name, reported), series in chosen.items():
        rows = series.to_numpy(dtype=bool)
        theirs = None if baseline is None else _excess(actual, baseline, rows)
        ours = _excess(actual, predicted, rows)
        found.append(ReportedSlice(name, reported, int(rows.sum()), ours, theirs))
    return tuple(found)


def _excess(actual: Floats, predicted: Floats, rows: NDArray[np.bool_]) -> Excess | None:
    """Compare the error on some rows with that on all; None without rows or without error."""
    everywhere = regression_metrics(actual, predicted)
    if not rows.any() or everywhere["mse"] == 0.0:
        return None
    there = regression_metrics(actual[rows], predicted[rows])
    return Excess(
        there["rmse"],
        there["mse"] / everywhere["mse"] - 1.0,
        there["mae"] / everywhere["mae"] - 1.0,
    )
