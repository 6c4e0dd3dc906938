"""How wrong predictions are: RMSE with its interval, and how well calibrated.

Of every error here lower is better. Predictions that are NaN or infinite are never
dropped from an error: they make it NaN or infinite, and the gate refuses that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Rows of random indices drawn at once: 2 million of them take 8 MB.
_RESAMPLED_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, in the estimate's own unit.

    Raises
    ------
    ValueError
        The estimate lies outside ``[low, high]``. NaN is allowed in all three.
    """

    estimate: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.estimate or self.high < self.estimate:
            raise ValueError(f"{self.estimate} lies outside its interval [{self.low}, {self.high}]")


def regression_metrics(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, float]:
    """Return ``rmse``, ``mse`` and ``mae`` of ``predicted``, both of shape (rows,).

    Raises
    ------
    ValueError
        No rows, or shapes that differ. NaN and infinity are carried through.
    """
    truth, answer = paired_rows(actual, predicted)
    with np.errstate(invalid="ignore", over="ignore"):
        error = answer - truth
        mse = float(np.mean(error**2))
        mae = float(np.mean(np.abs(error)))
    return {"rmse": float(np.sqrt(mse)), "mse": mse, "mae": mae}


def rmse(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the root of the mean squared error; see :func:`regression_metrics`."""
    return regression_metrics(actual, predicted)["rmse"]


def explained_share(rmse: float, mean_rmse: float, floor_rmse: float) -> float:
    """Return which share of what can be explained a model explains.

    ``(mean² - rmse²) / (mean² - floor²)``: 0 is the mean predictor, 1 the noise floor.

    Raises
    ------
    ValueError
        The floor is not below the mean predictor, so that nothing can be explained.
    """
    if not floor_rmse < mean_rmse:
        raise ValueError(f"the noise floor {floor_rmse} is not below the mean's {mean_rmse}")
    return (mean_rmse**2 - rmse**2) / (mean_rmse**2 - floor_rmse**2)


def bootstrap_rmse(
    actual: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> Interval:
    """Return the RMSE and its percentile bootstrap interval.

    Parameters
    ----------
    actual, predicted
        Shape (rows,).
    samples
        How often the rows are drawn again, with replacement.
    confidence
        Of the interval, in (0, 1).
    seed
        Same seed and rows, same interval.
    groups
        Shape (rows,): the seller of each row. Sellers are then drawn instead of rows,
        since the ads of one seller resemble each other; a missing seller stands for
        itself. One seller alone gives an interval without width.

    Raises
    ------
    ValueError
        No rows, shapes that differ, fewer than one sample, or a confidence outside (0, 1).
    """
    truth, answer = paired_rows(actual, predicted)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = (answer - truth)[np.newaxis] ** 2
        resampled = np.sqrt(_resampled_means(squares, groups, samples, seed)[0])
    return _percentile_interval(rmse(truth, answer), resampled, confidence)


def paired_bootstrap(
    actual: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> Interval:
    """Return RMSE(first) - RMSE(second) on the same rows, with its interval.

    Both models are measured on each resample, so that what makes a row hard for both
    cancels out. Negative: ``first`` is better. Parameters and errors are those of
    :func:`bootstrap_rmse`.
    """
    truth, one = paired_rows(actual, first)
    _, two = paired_rows(actual, second)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = np.stack([(one - truth) ** 2, (two - truth) ** 2])
        roots = np.sqrt(_resampled_means(squares, groups, samples, seed))
        return _percentile_interval(
            rmse(truth, one) - rmse(truth, two), roots[0] - roots[1], confidence
        )


def calibration_table(
    actual: npt.ArrayLike, predicted: npt.ArrayLike, *, bins: int = 10
) -> pd.DataFrame:
    """Compare the mean prediction with the mean truth in bins of equal count.

    Equal predictions always share a bin, so there may be fewer bins than asked for.
    Rows whose prediction is not finite belong to no bin.

    Returns
    -------
    DataFrame
        A row a bin, by rising prediction: ``bin`` (from 1), ``predicted_mean``,
        ``actual_mean``, ``rows``.

    Raises
    ------
    ValueError
        No rows, shapes that differ, or fewer than one bin.
    """
    import pandas as pd

    truth, answer = paired_rows(actual, predicted)
    finite = np.isfinite(answer)
    frame = pd.DataFrame({"predicted_mean": answer[finite], "actual_mean": truth[finite]})
    groups = frame.groupby(quantile_bins(answer[finite], bins) + 1)
    table = groups.mean().assign(rows=groups.size())
    return table.rename_axis("bin").reset_index()


def expected_calibration_error(
    actual: npt.ArrayLike, predicted: npt.ArrayLike, *, bins: int = 10
) -> float:
    """Return the mean distance of prediction and truth over bins, weighted by their rows.

    0 is perfect. NaN where no prediction is finite. Bins and errors are those of
    :func:`calibration_table`.
    """
    table = calibration_table(actual, predicted, bins=bins)
    if table.empty:
        return float("nan")
    distance = (table["predicted_mean"] - table["actual_mean"]).abs()
    return float(np.average(distance, weights=table["rows"]))


def quantile_bins(values: Floats, bins: int) -> Integers:
    """Give finite values the number of their quantile bin, from 0 without gaps.

    Equal values share a bin. Shape (rows,) to (rows,).

    Raises
    ------
    ValueError
        Fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f"there must be at least one bin, not {bins}")
    if values.size == 0:
        return np.empty(0, dtype=np.int64)
    inner = np.unique(np.quantile(values, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    placed = np.searchsorted(inner, values, side="left")
    return np.unique(placed, return_inverse=True)[1].astype(np.int64)


def paired_rows(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return truth and predictions as float64 of one shape (rows,).

    Raises
    ------
    ValueError
        No rows, or shapes that differ.
    """
    truth = np.asarray(actual, dtype=np.float64)
    answer = np.asarray(predicted, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != answer.shape:
        raise ValueError(f"truth has the shape {truth.shape}, predictions have {answer.shape}")
    if truth.size == 0:
        raise ValueError("there are no rows to measure an error on")
    return truth, answer


def _resampled_means(
    values: Floats, groups: npt.ArrayLike | None, samples: int, seed: int
) -> Floats:
    """Draw rows (or whole groups) with replacement; (k, rows) to means of shape (k, samples)."""
    if samples < 1:
        raise ValueError(f"a bootstrap needs at least one sample, not {samples}")
    sums, counts = values, np.ones(values.shape[1])
    if groups is not None:
        codes = _group_codes(groups, values.shape[1])
        counts = np.bincount(codes).astype(np.float64)
        sums = np.stack([np.bincount(codes, weights=row) for row in values])
    units = counts.size
    generator = np.random.default_rng(seed)
    means = np.empty((len(sums), samples))
    step = max(1, _RESAMPLED_AT_ONCE // units)
    for start in range(0, samples, step):
        stop = min(start + step, samples)
        drawn = generator.integers(0, units, size=(stop - start, units), dtype=np.int32)
        rows = counts[drawn].sum(axis=1)
        for k, row in enumerate(sums):
            means[k, start:stop] = row[drawn].sum(axis=1) / rows
    return means


def _group_codes(groups: npt.ArrayLike, rows: int) -> Integers:
    """Give each group a number from 0; each missing one has its own."""
    import pandas as pd

    codes = pd.factorize(np.asarray(groups, dtype=object))[0].astype(np.int64)
    if codes.shape != (rows,):
        raise ValueError(f"there are {codes.size} groups for {rows} rows")
    missing = codes < 0
    codes[missing] = codes.max(initial=-1) + 1 + np.arange(missing.sum())
    return codes


def _percentile_interval(estimate: float, resampled: Floats, confidence: float) -> Interval:
    """Return the middle ``confidence`` of the resampled values, never without the estimate."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    if not np.isfinite(estimate) or not np.isfinite(resampled).all():
        return Interval(estimate, float("nan"), float("nan"))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    # RMSE is concave in the squares, so a skewed sample can put the percentiles on one side.
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))
