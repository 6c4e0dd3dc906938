"""Prediction intervals around a deal probability, by split conformal prediction.

Calibrated on ads that the model was not trained on, each parent category by itself
(a *Mondrian* taxonomy: Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random
World*, 2005). Where calibration ads and new ads are exchangeable, the intervals of a category
with many rows hold at least ``coverage`` of its outcomes, over calibrations on average.

Two things make this approximate: small categories borrow from all others, and
out-of-fold predictions are not those of the model that was trained on all folds (Vovk,
*Cross-conformal predictors*, 2015). And it is a promise for a category, not for every
prediction: among its ads, small predictions are covered more often than large ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from demand.features.columns import Floats
from demand.features.compiled import compilable, compiled
from demand.features.group_means import place_of
from demand.features.text import Hashes, hash_values, short_key
from demand.metrics import paired_rows

Parents = Hashes | Sequence[str | None]
P = TypeVar("P", bound=Any)  # predictions as an array, or one in compiled code

# Groups with fewer rows use the pooled quantile: a quantile of less is mostly luck.
GROUP_ROWS_MIN = 20
# Weight of the pooled quantile in each group's own, in rows. Calibrated on 640 real ads,
# a third as many categories fell below 70 % as without; on 8,000 it makes no difference.
SHRINKAGE_ROWS = 50.0
# Two in three outcomes are exactly 0. Up to a prediction of about 0.55 so many are (one
# in five and more) that an honest interval begins at 0. This keeps it there: with 2
# instead, the intervals that begin higher held the outcomes of 6 in 10 real ads only.
ZERO_MARGIN = 4.0
# No prediction counts as nearer to 0 or 1, so that no scale is 0.
EDGE = 0.01
COVERAGE = 0.8
_SALT = np.uint64(1)


@dataclass(frozen=True)
class Intervals:
    """A table from parent category to how far its outcomes stray from predictions.

    Parameters
    ----------
    keys
        Hashes of the categories with enough rows, sorted, shape (g,), uint32.
    quantiles
        Conformal quantile of the scores of each, shape (g,), float32, not negative.
    pooled
        The quantile for all other categories, and where it is missing, shape (1,), float32.
    """

    keys: NDArray[np.uint32]
    quantiles: NDArray[np.float32]
    pooled: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Demand that the shapes are those above: compiled code looks at none."""
        if self.keys.ndim != 1 or self.quantiles.shape != self.keys.shape:
            raise ValueError(f"{self.keys.shape} keys, but quantiles {self.quantiles.shape}")
        if self.pooled.shape != (1,):
            raise ValueError(f"pooled quantiles of shape {self.pooled.shape}, not (1,)")

    def bounds(self, predicted: ArrayLike, parents: Parents) -> tuple[Floats, Floats]:
        """Return where the outcomes of ads probably lie.

        With p the prediction and q the quantile of the category, the interval is
        [p - (q + 4) · (1 - p)², p + q · p²], cut to [0, 1]: a prediction near an end can
        only be wrong in the other direction.

        Parameters
        ----------
        predicted
            Deal probabilities, shape (n,), in [0, 1].
        parents
            Parent category of each ad, as in :func:`fit_intervals`.

        Returns
        -------
        low, high
            Each of shape (n,), with 0 <= low <= predicted <= high <= 1.

        Raises
        ------
        ValueError
            A prediction is outside [0, 1] or NaN, or there is not one parent a prediction.
        """
        p = _one_column(predicted, "prediction")
        hashes = _hashes(parents, len(p))
        low, high, wrong = _bounds(p, hashes, self.keys, self.quantiles, self._pooled)
        if wrong >= 0:
            raise _outside(p, wrong, "prediction")
        return low, high

    @cached_property
    def _pooled(self) -> float:
        return float(self.pooled[0])

    def store(self, arrays: dict[str, NDArray[Any]], name: str) -> None:
        """Put the table into ``arrays`` under three names that begin with ``name``."""
        arrays[f"{name}.keys"], arrays[f"{name}.quantiles"] = self.keys, self.quantiles
        arrays[f"{name}.pooled"] = self.pooled

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> Intervals:
        """Take from ``arrays`` what :meth:`store` put there."""
        keys = np.array(arrays[f"{name}.keys"], np.uint32)
        quantiles = np.array(arrays[f"{name}.quantiles"], np.float32)
        return cls(keys, quantiles, np.array(arrays[f"{name}.pooled"], np.float32))


def fit_intervals(
    predicted: ArrayLike, actual: ArrayLike, parents: Parents, *, coverage: float = COVERAGE
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

    Parameters
    ----------
    predicted
        Deal probabilities, out of sample, shape (n,), in [0, 1].
    actual
        What came true, shape (n,), in [0, 1].
    parents
        Parent category of each ad: names, None where missing; or their hashes by
        :func:`demand.features.text.hash_values`, shape (n,), uint64. The two agree.
    coverage
        Share of outcomes that the intervals are to hold, in (0, 1).

    Returns
    -------
    Intervals
        More than ``coverage`` lies in them where even [0, p] holds more, as in a category
        of almost only zeros.

    Raises
    ------
    ValueError
        Fewer than 20 rows or fewer than ``coverage`` needs (99 for 0.99), shapes that
        differ, a value outside [0, 1] or NaN, or a coverage outside (0, 1).
    """
    if not 0.0 < coverage < 1.0:
        raise ValueError(f"a coverage lies between 0 and 1, not at {coverage}")
    truth, answer = paired_rows(actual, predicted)
    rows_min = max(GROUP_ROWS_MIN, _rows_needed(coverage))
    if len(truth) < rows_min:
        raise ValueError(
            f"intervals of coverage {coverage:g} need at least {rows_min} ads to calibrate on, "
            f"but there are {len(truth)}"
        )
    keys = _keys(parents, len(truth))
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
    down, up = _scales(predicted)
    above = (actual - predicted) / up
    below = (predicted - actual) / down - ZERO_MARGIN
    return np.maximum(np.maximum(above, below), 0.0)


@compilable
def _scales(predicted: P) -> tuple[P, P]:
    """Return the units below and above, of one prediction or of many.

    On real ads the distance from p to the 80 % quantile of outcomes grows like p², so
    that one quantile fits small and large predictions; any power from 1 to 2.5 is as
    narrow to 1 %. The standard deviation √(p · (1 - p)) instead is wider by a third, and
    holds the outcomes of only 6 in 10 ads where p is large.
    """
    return np.square(np.maximum(1.0 - predicted, EDGE)), np.square(np.maximum(predicted, EDGE))


def _rows_needed(coverage: float) -> int:
    """Return the fewest rows among which the conformal quantile lies."""
    # The excess of a product such as 9 · (1 - 0.9) over 1 is not always 0 in floats.
    return math.ceil(coverage / (1.0 - coverage) - 1e-9)


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


@compiled
def _bounds(
    predicted: Floats,
    parents: Hashes,
    known: NDArray[np.uint32],
    quantiles: NDArray[np.float32],
    pooled: float,
) -> tuple[Floats, Floats, int]:
    """Return low, high, and the first row whose prediction is no probability, or -1."""
    low, high = np.empty(len(predicted)), np.empty(len(predicted))
    for row in range(len(predicted)):
        p = predicted[row]
        if not 0.0 <= p <= 1.0:
            return low, high, row
        place = place_of(known, short_key(parents[row], _SALT))
        q = np.float64(quantiles[place]) if place >= 0 else pooled
        down, up = _scales(p)
        low[row] = min(max(p - (q + ZERO_MARGIN) * down, 0.0), p)
        high[row] = min(max(p + q * up, p), 1.0)
    return low, high, -1


def _keys(parents: Parents, rows: int) -> NDArray[np.uint32]:
    """Return a 32-bit key of each parent, shape (rows,)."""
    keys: NDArray[np.uint32] = short_key(_hashes(parents, rows), _SALT).astype(np.uint32)
    return keys


def _hashes(parents: Parents, rows: int) -> Hashes:
    """Return the hash of each parent, shape (rows,)."""
    hashes = parents if isinstance(parents, np.ndarray) else hash_values(list(parents))
    if hashes.shape != (rows,):
        raise ValueError(f"there are parents of shape {hashes.shape} for {rows} ads")
    if hashes.dtype != np.uint64:
        raise ValueError(f"hashes of parents are uint64, not {hashes.dtype}")
    return hashes


def _probabilities(values: ArrayLike, what: str) -> Floats:
    """Demand shape (n,) and values in [0, 1]; the first other one is named."""
    array = _one_column(values, what)
    wrong = np.flatnonzero(~((array >= 0.0) & (array <= 1.0)))
    if len(wrong):
        raise _outside(array, int(wrong[0]), what)
    return array


def _one_column(values: ArrayLike, what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{what}s have the shape {array.shape}, not (rows,)")
    return array


def _outside(values: Floats, row: int, what: str) -> ValueError:
    return ValueError(f"{what} {row} is {values[row]:g}, which is not in [0, 1]")
