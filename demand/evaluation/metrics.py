"""How wrong predictions are: RMSE with its interval, and how well calibrated.

Of every error here lower is better. Predictions that are NaN or infinite are never
dropped from an error: they make it NaN or infinite, and the gate refuses that. That there
are no rows, or shapes that differ, is a ValueError everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from demand.schema.arrays import Floats as Floats

if TYPE_CHECKING:
    import pandas as pd

Integers = npt.NDArray[np.int64]

CALIBRATION_BINS = 10
# Rows of random indices drawn at once: 2 million of them take 8 MB.
_RESAMPLED_AT_ONCE = 2_000_000


class Interval(NamedTuple):
    """An estimate and its confidence interval around it, in the estimate's own unit, or NaN."""

    estimate: float
    low: float
    high: float


def regression_metrics(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, float]:
    """Return ``rmse``, ``mse`` and ``mae`` of ``predicted``, both of shape (rows,)."""
    truth, answer = paired_rows(actual, predicted)
    with np.errstate(invalid="ignore", over="ignore"):
        error = answer - truth
        mse = float(np.mean(error**2))
        mae = float(np.mean(np.abs(error)))
    return {"rmse": float(np.sqrt(mse)), "mse": mse, "mae": mae}


def rmse(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the root of the mean squared error; see :func:`regression_metrics`."""
    return regression_metrics(actual, predicted)["rmse"]


def bootstrap_rmse(
    actual: npt.ArrayLike,
    predicted: npt.ArrayLike,
    other: npt.ArrayLike | None = None,
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> Interval:
    """Return the RMSE and its percentile bootstrap interval; all arrays have the shape (rows,).

    With another model's predictions, ``other``, it is RMSE(predicted) - RMSE(other): both are
    measured on each resample, so that what makes a row hard for both cancels out. Negative:
    ``predicted`` is better. Rows are drawn again ``samples`` times, with replacement.

    ``groups`` are the seller of each row. Sellers are then drawn instead of rows, since the ads
    of one seller resemble each other; a missing seller stands for itself. One seller alone
    gives an interval without width.
    """
    answers = [predicted] if other is None else [predicted, other]
    with np.errstate(invalid="ignore", over="ignore"):
        pairs = [paired_rows(actual, answer) for answer in answers]
        squares = np.stack([(answer - truth) ** 2 for truth, answer in pairs])
        estimate = float(np.subtract.reduce([rmse(*pair) for pair in pairs]))
        resampled = np.subtract.reduce(_resampled_rmse(squares, groups, samples, seed))
    if not np.isfinite(estimate) or not np.isfinite(resampled).all():
        return Interval(estimate, float("nan"), float("nan"))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    # RMSE is concave in the squares, so a skewed sample can put the percentiles on one side.
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def calibration_table(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> pd.DataFrame:
    """Compare the mean prediction with the mean truth in at most 10 bins of equal count.

    Equal predictions always share a bin, so there may be fewer bins. Rows whose prediction is
    not finite belong to no bin. The table has a row a bin, by rising prediction: ``bin`` (from
    1), ``predicted_mean``, ``actual_mean``, ``rows``.
    """
    import pandas as pd

    truth, answer = paired_rows(actual, predicted)
    finite = np.isfinite(answer)
    frame = pd.DataFrame({"predicted_mean": answer[finite], "actual_mean": truth[finite]})
    groups = frame.groupby(quantile_bins(answer[finite], CALIBRATION_BINS) + 1)
    table = groups.mean().assign(rows=groups.size())
    return table.rename_axis("bin").reset_index()


def expected_calibration_error(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the mean distance of prediction and truth over bins, weighted by their rows.

    0 is perfect. NaN where no prediction is finite. Bins and errors are those of
    :func:`calibration_table`.
    """
    table = calibration_table(actual, predicted)
    if table.empty:
        return float("nan")
    distance = (table["predicted_mean"] - table["actual_mean"]).abs()
    return float(np.average(distance, weights=table["rows"]))


def quantile_bins(values: Floats, bins: int) -> Integers:
    """Give finite values the number of their quantile bin, from 0 without gaps.

    Equal values share a bin. Shape (rows,) to (rows,).
    """
    if values.size == 0:
        return np.empty(0, dtype=np.int64)
    inner = np.unique(np.quantile(values, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    placed = np.searchsorted(inner, values, side="left")
    return np.unique(placed, return_inverse=True)[1].astype(np.int64)


def paired_rows(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return truth and predictions as float64 of one shape (rows,)."""
    truth = np.asarray(actual, dtype=np.float64)
    answer = np.asarray(predicted, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != answer.shape:
        raise ValueError(f"truth has the shape {truth.shape}, predictions have {answer.shape}")
    if truth.size == 0:
        raise ValueError("there are no rows to measure an error on")
    return truth, answer


def _resampled_rmse(
    squares: Floats, groups: npt.ArrayLike | None, samples: int, seed: int
) -> Floats:
    """Draw rows (or whole groups) of (answers, rows); return the RMSE, (answers, samples)."""
    counts = np.ones(squares.shape[1])
    if groups is not None:
        codes = _group_codes(groups)
        counts = np.bincount(codes).astype(np.float64)
        squares = np.stack([np.bincount(codes, weights=row) for row in squares])
    units = counts.size
    generator = np.random.default_rng(seed)
    means = np.empty((len(squares), samples))
    step = max(1, _RESAMPLED_AT_ONCE // units)
    for start in range(0, samples, step):
        stop = min(start + step, samples)
        drawn = generator.integers(0, units, size=(stop - start, units), dtype=np.int32)
        rows = counts[drawn].sum(axis=1)
        for k, row in enumerate(squares):
            means[k, start:stop] = row[drawn].sum(axis=1) / rows
    return np.sqrt(means)


def _group_codes(groups: npt.ArrayLike) -> Integers:
    """Give each group a number from 0; each missing one has its own."""
    import pandas as pd

    codes = pd.factorize(np.asarray(groups, dtype=object))[0].astype(np.int64)
    missing = codes < 0
    codes[missing] = codes.max(initial=-1) + 1 + np.arange(missing.sum())
    return codes
