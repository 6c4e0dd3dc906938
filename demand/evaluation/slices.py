"""Error by slice: where a model is worse than elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand.metrics import paired_rows, quantile_bins, rmse

MISSING = "missing"


def slice_errors(
    actual: npt.ArrayLike,
    predicted: npt.ArrayLike,
    by: Mapping[str, pd.Series],
    *,
    min_rows: int = 1,
) -> pd.DataFrame:
    """Measure the error in each slice of the rows.

    Parameters
    ----------
    actual, predicted
        Shape (rows,).
    by
        Name of the division to the slice of each row, shape (rows,), in the order of
        the rows whatever its index; see :func:`standard_slices`.
    min_rows
        Smaller slices are left out.

    Returns
    -------
    DataFrame
        A row a slice: ``slice`` (the division), ``value``, ``rows``, ``rmse``, ``mae``,
        ``bias`` (mean of prediction - truth), ``ratio`` (RMSE over that of all rows; NaN
        where that is 0), ``actual_mean`` and ``predicted_mean``.

    Raises
    ------
    ValueError
        No rows, or shapes that differ.
    """
    truth, answer = paired_rows(actual, predicted)
    with np.errstate(invalid="ignore", over="ignore"):
        error = answer - truth
        errors = pd.DataFrame(
            {
                "mse": error**2,
                "mae": np.abs(error),
                "bias": error,
                "actual_mean": truth,
                "predicted_mean": answer,
            }
        )
    parts = []
    for name, series in by.items():
        if len(series) != len(truth):
            raise ValueError(f"the slices {name!r} have {len(series)} rows, not {len(truth)}")
        groups = errors.groupby(series.reset_index(drop=True), dropna=False, observed=True)
        part = groups.mean().assign(rows=groups.size()).rename_axis("value").reset_index()
        part["value"] = [MISSING if pd.isna(value) else str(value) for value in part["value"]]
        parts.append(part[part["rows"] >= min_rows].assign(slice=name))
    columns = ["slice", "value", "rows", "rmse", "mae", "bias", "ratio"]
    columns += ["actual_mean", "predicted_mean"]
    if not parts:
        return pd.DataFrame(columns=columns)
    table = pd.concat(parts, ignore_index=True)
    table["rmse"] = np.sqrt(table["mse"])
    overall = rmse(truth, answer)
    table["ratio"] = table["rmse"] / (overall if overall > 0 else float("nan"))
    return table[columns]


def standard_slices(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Divide typed ads in the ways in which a model of them is known to fail.

    Returns
    -------
    dict
        By parent category, category, seller type, presence of each param and of the
        image, decile of the price (roubles) and quartile of the text's length (letters
        of title and description). Series of shape (rows,) with the frame's index.
    """
    slices = {
        name: frame[name].fillna(MISSING)
        for name in ("parent_category_name", "category_name", "user_type")
    }
    for name in ("param_1", "param_2", "param_3", "image"):
        given = frame[name].notna().map({True: "given", False: MISSING})
        slices[f"{name}_given"] = given
    letters = sum(frame[name].fillna("").str.len() for name in ("title", "description"))
    slices["price_decile"] = _quantile_slices(frame["price"], 10, "₽")
    slices["text_quartile"] = _quantile_slices(pd.Series(letters, frame.index), 4, "letters")
    return slices


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
