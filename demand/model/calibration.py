"""What calibration adds to a deal probability: an interval around it, and its percentile.

Prediction intervals are made by split conformal prediction, calibrated on ads that the model was
not trained on, each parent category by itself (a *Mondrian* taxonomy: Vovk, Gammerman and
Shafer, *Algorithmic Learning in a Random World*, 2005). Where calibration ads and new ads are
exchangeable, the intervals of a category with many rows hold at least ``coverage`` of its
outcomes, over calibrations on average.

Two things make this approximate: small categories borrow from all others, and
out-of-fold predictions are not those of the model that was trained on all folds (Vovk,
*Cross-conformal predictors*, 2015). And it is a promise for a category, not for every
prediction: among its ads, small predictions are covered more often than large ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from demand.evaluation.metrics import paired_rows
from demand.features import kernels
from demand.features.encoding import hash_values
from demand.schema.arrays import Floats, Hashes
from demand.schema.columns import CATEGORY_ROWS_MIN

# Names of categories, None where missing; or their hashes by
# demand.features.encoding.hash_values, shape (n,), uint64. The two agree.
Categories = Hashes | Sequence[str | None]

# Groups with fewer rows use the pooled quantile: a quantile of less is mostly luck.
GROUP_ROWS_MIN = 20
# Weight of the pooled quantile in each group's own, in rows. Calibrated on 640 real ads,
# a third as many categories fell below 70 % as without; on 8,000 it makes no difference.
SHRINKAGE_ROWS = 50.0
COVERAGE = 0.8
_LEVELS = np.linspace(0.0, 1.0, 51)  # of the answers of a category


@dataclass(frozen=True)
class Intervals:
    """A table from parent category to how far its outcomes stray from predictions."""

    keys: NDArray[np.uint32]  # hashes of the categories with enough rows, sorted, shape (g,)
    quantiles: NDArray[np.float32]  # conformal quantile of each one's scores, shape (g,), >= 0
    pooled: NDArray[np.float32]  # that of all other categories, and without one, shape (1,)

    def __post_init__(self) -> None:
        """Demand that the shapes are those above: compiled code looks at none."""
        if self.keys.ndim != 1 or self.quantiles.shape != self.keys.shape:
            raise ValueError(f"{self.keys.shape} keys, but quantiles {self.quantiles.shape}")
        if self.pooled.shape != (1,):
            raise ValueError(f"pooled quantiles of shape {self.pooled.shape}, not (1,)")

    def bounds(self, predicted: ArrayLike, parents: Categories) -> tuple[Floats, Floats]:
        """Return where the outcomes of ads probably lie.

        With p the prediction and q the quantile of the category, the interval is
        [p - (q + 4) · (1 - p)², p + q · p²], cut to [0, 1]: a prediction near an end can
        only be wrong in the other direction. Takes deal probabilities, shape (n,), and the
        parent category of each ad; low and high, shape (n,), are such that
        0 <= low <= predicted <= high <= 1.

        Raises
        ------
        ValueError
            A prediction is outside [0, 1] or NaN, or there is not one parent a prediction.
        """
        p = np.asarray(predicted, dtype=np.float64)
        hashes, pooled = _hashes(parents, p.shape, "parents"), float(self.pooled[0])
        low, high, wrong = kernels.interval_bounds(p, hashes, self.keys, self.quantiles, pooled)
        if wrong >= 0:
            raise _outside(p, wrong, "prediction")
        return low, high

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the table under three names that begin with ``intervals``."""
        return {f"intervals.{name}": array for name, array in asdict(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self | None:
        """Undo :meth:`to_arrays`; None where a model has no intervals."""
        if "intervals.pooled" not in arrays:
            return None
        keys = np.array(arrays["intervals.keys"], np.uint32)
        quantiles = np.array(arrays["intervals.quantiles"], np.float32)
        return cls(keys, quantiles, np.array(arrays["intervals.pooled"], np.float32))


def fit_intervals(
    predicted: ArrayLike, actual: ArrayLike, parents: Categories, *, coverage: float = COVERAGE
) -> Intervals:
    """Calibrate intervals on ads that the model has not learned from.

    A score says how far an outcome y is from its prediction p, in units of a scale that
    depends on p and on the side (locally weighted: Lei et al., *Distribution-free
    predictive inference for regression*, JASA 2018; each side by itself: Romano, Patterson
    and Candès, *Conformalized quantile regression*, NeurIPS 2019): (y - p) / p² above,
    max(0, (p - y) / (1 - p)² - 4) below. The quantile of n scores is the
    ceil((n + 1) · coverage)-th smallest. That of a category of n rows is shrunk towards
    the pooled one, (n · own + 50 · pooled) / (n + 50).

    The pooled quantile is for categories that calibration did not see, so in it each
    category counts almost alike, however many rows it has: a row weighs 1 / (n + 50)
    (Dunn, Wasserman and Ramdas, *Distribution-free prediction sets for two-layer
    hierarchical models*, JASA 2023).

    Takes deal probabilities, out of sample, and what came true, each of shape (n,) and in [0, 1];
    the parent category of each ad; and the share of outcomes that the intervals are to hold, in
    (0, 1). More than that lies in them where even [0, p] holds more, as in a category of almost
    only zeros.

    Raises
    ------
    ValueError
        Fewer than 20 rows or fewer than ``coverage`` needs (99 for 0.99), shapes that
        differ, a value outside [0, 1] or NaN, or a coverage outside (0, 1).
    """
    if not 0.0 < coverage < 1.0:
        raise ValueError(f"a coverage lies between 0 and 1, not at {coverage}")
    truth, answer = paired_rows(actual, predicted)
    # The excess of a product such as 9 · (1 - 0.9) over 1 is not always 0 in floats.
    rows_min = max(GROUP_ROWS_MIN, math.ceil(coverage / (1.0 - coverage) - 1e-9))
    if len(truth) < rows_min:
        raise ValueError(
            f"intervals of coverage {coverage:g} need at least {rows_min} ads to calibrate on, "
            f"but there are {len(truth)}"
        )
    hashes = _hashes(parents, truth.shape, "parents")
    keys = kernels.short_key(hashes, kernels.PARENT_SALT).astype(np.uint32)
    scores = _scores(_probabilities(answer, "prediction"), _probabilities(truth, "outcome"))
    unique, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
    weights = 1.0 / (counts + SHRINKAGE_ROWS)
    pooled = _quantile(scores, weights[group], coverage)
    kept = np.flatnonzero(counts >= rows_min)
    own = np.array([_quantile(s := scores[group == g], np.ones_like(s), coverage) for g in kept])
    shrunk = pooled + counts[kept] * weights[kept] * (own - pooled)
    return Intervals(unique[kept], _rounded_up(shrunk), _rounded_up(np.array([pooled])))


def _scores(predicted: Floats, actual: Floats) -> Floats:
    """Return the smallest quantile whose interval holds the outcome, shape (n,)."""
    down, up = kernels.interval_scales(predicted)
    above = (actual - predicted) / up
    below = (predicted - actual) / down - kernels.ZERO_MARGIN
    return np.maximum(np.maximum(above, below), 0.0)


def _quantile(scores: Floats, weights: Floats, coverage: float) -> float:
    """Return the weighted quantile at the level ceil((n + 1) · coverage) / n."""
    rows = len(scores)
    level = min(1.0, math.ceil((rows + 1) * coverage - 1e-9) / rows)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, (level - 1e-9 / rows) * reached[-1]))
    return float(scores[order[min(place, rows - 1)]])


def _rounded_up(quantiles: Floats) -> NDArray[np.float32]:
    """Round to float32 upwards: outcomes have spikes, and a border on one must hold it."""
    short = quantiles.astype(np.float32)
    return np.where(short > 0, np.nextafter(short, np.float32(np.inf)), short).astype(np.float32)


def _hashes(categories: Categories, shape: tuple[int, ...], what: str) -> Hashes:
    """Demand one hash a row, shape (rows,), uint64."""
    hashes = categories if isinstance(categories, np.ndarray) else hash_values(categories)
    if hashes.shape != shape or hashes.ndim != 1:
        raise ValueError(f"there are {what} of shape {hashes.shape} for answers of shape {shape}")
    if hashes.dtype != np.uint64:
        raise ValueError(f"hashes of {what} are uint64, not {hashes.dtype}")
    return hashes


def _probabilities(values: Floats, what: str) -> Floats:
    """Demand values in [0, 1]; the first other one is named."""
    wrong = np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))
    if len(wrong):
        raise _outside(values, int(wrong[0]), what)
    return values


def _outside(values: Floats, row: int, what: str) -> ValueError:
    return ValueError(f"{what} {row} is {values[row]:g}, which is not in [0, 1]")


@dataclass(frozen=True)
class Percentiles:
    """Quantiles of a model's answers by category."""

    keys: NDArray[np.uint32]  # hashes of the categories with enough ads, sorted, shape (g,)
    # Answers at evenly spaced levels of each, and of all ads in the last row, (g + 1, 51).
    quantiles: NDArray[np.float16]

    def __post_init__(self) -> None:
        """Demand that the shapes are those above: compiled code looks at none."""
        expected = (len(self.keys) + 1, len(_LEVELS))
        if self.keys.ndim != 1 or self.quantiles.shape != expected:
            raise ValueError(f"{self.keys.shape} keys, but quantiles {self.quantiles.shape}")

    @classmethod
    def fit(cls, predicted: ArrayLike, categories: Sequence[str | None]) -> Self:
        """Learn the quantiles of answers, shape (n,), n >= 1, for ads of known categories."""
        answers = np.asarray(predicted, dtype=np.float64)
        hashes = _hashes(categories, answers.shape, "categories")
        keys = kernels.short_key(hashes, kernels.CATEGORY_SALT).astype(np.uint32)
        unique, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
        kept = np.flatnonzero(counts >= CATEGORY_ROWS_MIN)
        rows = [np.quantile(answers[group == number], _LEVELS) for number in kept]
        rows.append(np.quantile(answers, _LEVELS))
        return cls(unique[kept], np.array(rows, dtype=np.float16))

    def of(self, predicted: ArrayLike, categories: Categories) -> Floats:
        """Return the share of its category's ads that get a smaller answer, in [0, 1].

        Of n answers, shape (n,); those of unknown and small categories are ranked among all ads.
        A rank that several levels share, as among equal answers, is their middle.

        Raises
        ------
        ValueError
            There is not one category an answer.
        """
        answers = np.asarray(predicted, dtype=np.float64)
        hashes = _hashes(categories, answers.shape, "categories")
        return kernels.percentiles_of(answers, hashes, self.keys, self._levels)

    @cached_property
    def _levels(self) -> Floats:
        """The quantiles in a type that machine code can compare."""
        return self.quantiles.astype(np.float64)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the table under two names that begin with ``ranks``."""
        return {f"ranks.{name}": array for name, array in asdict(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self | None:
        """Undo :meth:`to_arrays`; None where a model has no percentiles."""
        if "ranks.keys" not in arrays:
            return None
        keys = np.array(arrays["ranks.keys"], np.uint32)
        return cls(keys, np.array(arrays["ranks.quantiles"], np.float16))
