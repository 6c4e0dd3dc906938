"""Error and coverage by slice: where a model is worse than elsewhere, and the checks of that.

Among them are the slices on which the old report's model was weak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand.config import CheckSettings
from demand.evaluation.behaviour import Check, Outcome, one_line
from demand.evaluation.metrics import Floats, paired_rows, quantile_bins, rmse
from demand.schema.columns import PARAMS, TARGET

MISSING = "missing"
COVERAGE_ROWS_MIN = 100
# Each check, and the divisions of standard_slices that it judges.
_JUDGED: dict[str, tuple[str, ...]] = {
    "slice_parent_category": ("parent_category_name",),
    "slice_seller_type": ("user_type",),
    "slice_missing_params": tuple(f"{name}_given" for name in PARAMS),
    "slice_price_decile": ("price_decile",),
    "slice_text_length": ("text_quartile",),
}
REPORTED = "slice_reported"
SLICE_NAMES = (*_JUDGED, REPORTED)
# Slices of fewer rows are shown, not judged: their order is mostly luck.
_REPORTED_ROWS_MIN = 50
# Columns whose slices are the same in any rows: those of quantiles are not.
_VALUES_SEEN = ("parent_category_name", "user_type")
SEEN_COLUMNS = (*_VALUES_SEEN, *PARAMS)
_WHAT_WAS_REPORTED = {
    "children's goods": "+91 % MSE",
    "transport": "+54 % MAE",
    "param_2 missing": "+35 %",
    "param_3 missing": "+28 %",
}


@dataclass(frozen=True)
class Coverage:
    """How often the outcome of ads lies within the interval that was predicted, in [0, 1].

    Overall, and for each parent category with enough ads; ``nominal`` is what the intervals
    promise, where known, ``width`` the mean distance of the bounds, as a probability.
    """

    overall: float
    by_parent_category: Mapping[str, float]
    nominal: float | None = None
    width: float = float("nan")


def measure_coverage(
    ads: pd.DataFrame,
    low: Floats,
    high: Floats,
    rows_min: int = COVERAGE_ROWS_MIN,
    *,
    nominal: float | None = None,
) -> Coverage:
    """Count outcomes within their bounds ``low`` and ``high``, shape (n,).

    ``ads`` are typed, with their target, shape (n, 18), and such that the intervals were not
    calibrated on. Parent categories with fewer than ``rows_min`` are left out.
    """
    actual = ads[TARGET].to_numpy(dtype=np.float64)
    within = pd.Series((actual >= low) & (actual <= high))
    groups = within.groupby(ads["parent_category_name"].to_numpy())
    shares = groups.mean()[groups.size() >= rows_min]
    by_parent = {str(name): float(share) for name, share in shares.items()}
    return Coverage(float(within.mean()), by_parent, nominal, float(np.mean(high - low)))


def slice_errors(
    actual: npt.ArrayLike,
    predicted: npt.ArrayLike,
    by: Mapping[str, pd.Series],
    *,
    min_rows: int = 1,
) -> pd.DataFrame:
    """Measure the error in each slice of at least ``min_rows`` rows.

    ``actual`` and ``predicted`` have the shape (rows,). So has the slice of each row in
    ``by``, under the name of the division, in the order of the rows whatever its index; see
    :func:`standard_slices`. No rows, or shapes that differ, are a ValueError.

    The table has a row a slice: ``slice`` (the division), ``value``, ``rows``, ``rmse``,
    ``mae``, ``bias`` (mean of prediction - truth), ``ratio`` (RMSE over that of all rows; NaN
    where that is 0), ``actual_mean`` and ``predicted_mean``.
    """
    truth, answer = paired_rows(actual, predicted)
    with np.errstate(invalid="ignore", over="ignore"):
        error = answer - truth
        columns = {"mse": error**2, "mae": np.abs(error), "bias": error}
        errors = pd.DataFrame(columns | {"actual_mean": truth, "predicted_mean": answer})
    parts = []
    for name, series in by.items():
        if len(series) != len(truth):
            raise ValueError(f"the slices {name!r} have {len(series)} rows, not {len(truth)}")
        groups = errors.groupby(series.reset_index(drop=True), dropna=False, observed=True)
        part = groups.mean().assign(rows=groups.size()).rename_axis("value").reset_index()
        part["value"] = [MISSING if pd.isna(value) else str(value) for value in part["value"]]
        parts.append(part[part["rows"] >= min_rows].assign(slice=name))
    table = pd.concat(parts, ignore_index=True)
    table["rmse"] = np.sqrt(table["mse"])
    overall = rmse(truth, answer)
    table["ratio"] = table["rmse"] / (overall if overall > 0 else float("nan"))
    figures = ["rows", "rmse", "mae", "bias", "ratio", "actual_mean", "predicted_mean"]
    return table[["slice", "value", *figures]]


def standard_slices(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Divide typed ads in the ways in which a model of them is known to fail.

    By parent category, category, seller type, presence of each param and of the image,
    decile of the price (roubles) and quartile of the text's length (letters of title and
    description). Series of shape (rows,) with the frame's index.
    """
    slices = _by_value(frame, ("parent_category_name", "category_name", "user_type"))
    slices |= _by_presence(frame, (*PARAMS, "image"))
    letters = sum(frame[name].fillna("").str.len() for name in ("title", "description"))
    slices["price_decile"] = _quantile_slices(frame["price"], 10, "₽")
    slices["text_quartile"] = _quantile_slices(pd.Series(letters, frame.index), 4, "letters")
    return slices


def _by_value(frame: pd.DataFrame, names: Iterable[str]) -> dict[str, pd.Series]:
    return {name: frame[name].fillna(MISSING) for name in names}


def _by_presence(frame: pd.DataFrame, names: Iterable[str]) -> dict[str, pd.Series]:
    words = {True: "given", False: MISSING}
    return {f"{name}_given": frame[name].notna().map(words) for name in names}


def _quantile_slices(values: pd.Series, bins: int, unit: str) -> pd.Series:
    """Name the quantile bin of each number by its least and greatest value, in order."""
    numbers = values.to_numpy(dtype=np.float64)
    finite = np.isfinite(numbers)
    codes = np.full(numbers.size, -1, dtype=np.int64)
    codes[finite] = quantile_bins(numbers[finite], bins)
    spans = pd.Series(numbers[finite]).groupby(codes[finite]).agg(["min", "max"])
    names = [
        f"{number}: {low:,.0f}–{high:,.0f} {unit}"
        for number, (low, high) in enumerate(spans.to_numpy(), start=1)
    ]
    codes[~finite] = len(names)
    return pd.Series(
        pd.Categorical.from_codes(codes, pd.Index([*names, MISSING]), ordered=True), values.index
    )


def judged_slices(
    test: pd.DataFrame, predicted: Floats, train: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Measure the error of ``predicted``, shape (n,), on each slice that the checks judge.

    The table has the columns of :func:`slice_errors` and ``train_rows``, how many of the
    training rows, of which the ``SEEN_COLUMNS`` are read, are in the slice (NaN where unknown); by
    division, the largest error first.
    """
    divisions = standard_slices(test)
    judged = {name: divisions[name] for names in _JUDGED.values() for name in names}
    table = slice_errors(test[TARGET].to_numpy(), predicted, judged)
    table["train_rows"] = np.nan
    if train is not None:
        comparable = _by_value(train, _VALUES_SEEN) | _by_presence(train, PARAMS)
        seen = {name: values.value_counts() for name, values in comparable.items()}
        table["train_rows"] = [
            float(seen[name].get(value, 0)) if name in seen else np.nan
            for name, value in zip(table["slice"], table["value"], strict=True)
        ]
    parts = [part for _, part in table.groupby("slice", sort=False)]
    worst_first = [p.sort_values("rmse", ascending=False, kind="stable") for p in parts]
    return pd.concat(worst_first, ignore_index=True)


def reported_slices(test: pd.DataFrame, predicted: Floats, baseline: Floats | None) -> pd.DataFrame:
    """Measure the slices on which the old report's MLP was weak.

    ``predicted`` and ``baseline`` are the model's and the baseline's predictions of the
    labelled rows ``test``, shape (n,). The table has a row a slice: ``slice``, ``reported``
    (what the report said), ``rows``, and of the model ``rmse``, ``mse`` and ``mae``, the latter
    two over those of all rows (0.91: 91 % more), of the baseline the same as ``baseline_rmse``
    and so on. NaN without rows and without answers of the baseline.
    """
    children = ("Товары для детей и игрушки", "Детская одежда и обувь")
    chosen = {
        "children's goods": test["category_name"].isin(children),
        "transport": test["parent_category_name"] == "Транспорт",
        "param_2 missing": test["param_2"].isna(),
        "param_3 missing": test["param_3"].isna(),
    }
    actual, everywhere = test[TARGET].to_numpy(dtype=np.float64), pd.Series(True, test.index)
    table = pd.DataFrame(_WHAT_WAS_REPORTED.items(), columns=["slice", "reported"])
    table["rows"] = [int(rows.sum()) for rows in chosen.values()]
    for whose, answers in (("", predicted), ("baseline_", baseline)):
        if answers is None:
            answers = np.full(len(test), np.nan)
        errors = slice_errors(actual, answers, chosen | {"all": everywhere})
        errors = errors[errors["value"] == "True"].set_index("slice")
        there = errors.reindex(list(chosen))
        table[f"{whose}rmse"] = there["rmse"].to_numpy()
        table[f"{whose}mse"] = (there["ratio"] ** 2 - 1.0).to_numpy()
        table[f"{whose}mae"] = (there["mae"] / errors.loc["all", "mae"] - 1.0).to_numpy()
    return table


def slice_checks(
    tables: Callable[[], tuple[pd.DataFrame, pd.DataFrame]], settings: CheckSettings
) -> list[Check]:
    """Return one check for each name: its worst slice of enough rows against the bound.

    The last one is that the model is not worse than the baseline where that is weak.
    ``tables`` are those of :func:`judged_slices` and :func:`reported_slices`, called when a
    check runs; it may raise as the model does.
    """
    limit, least = settings.slice_rmse_ratio_max, settings.slice_min_rows

    def measure(divisions: tuple[str, ...]) -> Outcome:
        table, _ = tables()
        judged = table[table["slice"].isin(divisions) & (table["rows"] >= least)]
        if judged.empty:
            return True, f"not judged: no slice has {least} rows", None
        worst = judged.iloc[int(np.argmax(judged["rmse"].fillna(np.inf)))]
        if worst["rmse"] == 0.0:
            return True, "no error at all", 0.0
        ratio = float(worst["ratio"])
        words = (
            f"worst of {len(judged)} slices: {worst['slice']} {one_line(worst['value'], 60)!r}, "
            f"{worst['rows']} rows, RMSE {worst['rmse']:.4f}, {ratio:.2f} times that of all"
        )
        return ratio <= limit, words, ratio  # NaN is not within the bound

    def compare() -> Outcome:
        _, table = tables()
        judged = (table["rows"] >= _REPORTED_ROWS_MIN) & table["baseline_rmse"].notna()
        if not judged.any():
            return True, "not judged: no answers of the report's MLP, or too few rows", None
        compared = table[judged]
        behind = (compared["rmse"] - compared["baseline_rmse"]).fillna(np.inf)
        worst = compared.iloc[int(np.argmax(behind))]
        ours, theirs = float(worst["rmse"]), float(worst["baseline_rmse"])
        words = (
            f"worst of {len(compared)} slices: {worst['slice']}, {worst['rows']} rows, "
            f"RMSE {ours:.4f} against {theirs:.4f}"
        )
        return ours <= theirs, words, ours - theirs

    bound = f"at most {limit:g} times, on slices of {least} rows or more"
    demanded = "an RMSE of at most that of the report's MLP on the slices that it was weak on"
    return [
        *(Check(name, bound, partial(measure, parts)) for name, parts in _JUDGED.items()),
        Check(REPORTED, demanded, compare),
    ]
