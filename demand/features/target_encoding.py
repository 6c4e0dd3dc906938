"""Smoothed means by group: of the target, and of the log price, down the chain of params.

In training those of the target are taken out of fold; afterwards from the full tables.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.kernels import LEVEL_ABOVE, TARGET_ABOVE, smoothed_means
from demand.schema.arrays import Floats, Hashes

COUNT_MIN = 2  # rows of a group that has a mean of its own
_PRICE_SHRINKAGE = 5.0  # rows; price levels settle faster than outcomes


def fit_means(
    groups: Hashes, values: Floats, above: NDArray[np.int64], overall: float, shrinkage: float
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Estimate the mean value of each group, kind of groups after kind.

    The estimate is (sum of values + shrinkage · mean above) / (count + shrinkage),
    the posterior mean under a normal prior centred on the group above
    (Micci-Barreca, SIGKDD Explorations 2001). Groups of fewer than ``COUNT_MIN`` rows are left
    to the one above.

    Takes the groups of n rows, well mixed hashes that differ between the s kinds, shape (s, n);
    values without NaN, shape (n,); ``above`` and ``overall`` as in
    :func:`demand.features.kernels.smoothed_means`; and the weight of the level above, in rows.
    Returns that function's keys and means of the g groups that are kept, each of shape (g,).
    """
    keys: list[NDArray[np.uint32]] = []
    means: list[NDArray[np.float32]] = []
    estimates: list[Floats] = []
    for group, fallback in zip(groups, above, strict=True):
        prior = estimates[fallback] if fallback >= 0 else np.full(len(values), overall)
        # The upper 32 bits: half the size, collisions at 1 in 4 billion.
        short = (group >> np.uint64(32)).astype(np.uint32)
        unique, inverse, counts = np.unique(short, return_inverse=True, return_counts=True)
        sums = np.bincount(inverse, values, len(unique))
        mean_above = np.bincount(inverse, prior, len(unique)) / np.maximum(counts, 1)
        smoothed = (sums + shrinkage * mean_above) / (counts + shrinkage)
        kept = counts >= COUNT_MIN
        keys.append(unique[kept])
        means.append(smoothed[kept].astype(np.float32))
        estimates.append(np.where(kept[inverse], smoothed.astype(np.float32)[inverse], prior))
    joined = np.concatenate(keys)
    order = np.argsort(joined, kind="stable")
    return joined[order], np.concatenate(means)[order]


def fit_price_levels(logs: Floats, mixed_chain: Hashes, bins: int) -> dict[str, NDArray[Any]]:
    """Learn the bins of the price and its level down the chain, shape (5, n), of n ads.

    ``logs`` are log(1 + roubles), shape (n,); NaN where the price is missing.
    """
    known = np.flatnonzero(np.isfinite(logs))
    log_price = logs[known]
    overall = float(np.median(log_price)) if len(known) else 0.0
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    groups = mixed_chain[:, known]
    keys, means = fit_means(groups, log_price, LEVEL_ABOVE, overall, _PRICE_SHRINKAGE)
    return {
        "price_bins": np.quantile(log_price, inner) if len(known) else np.zeros(1),
        "price_overall": np.array([overall]),
        "price.keys": keys,
        "price.means": means,
    }


def fit_target_means(groups: Hashes, target: Floats, shrinkage: float) -> dict[str, NDArray[Any]]:
    """Learn the mean target, shape (n,), of each of :data:`TARGET_GROUPS`, shape (s, n)."""
    overall = target.mean()
    keys, means = fit_means(groups, target, TARGET_ABOVE, overall, shrinkage)
    return {"overall": np.array([overall]), "target.keys": keys, "target.means": means}


def out_of_fold(
    groups: Hashes, target: Floats, fold: NDArray[np.int64], shrinkage: float
) -> Floats:
    """Return mean targets of groups, shape (s, n), that none of an ad's fold have a say in."""
    # Where all ads fall into one fold, nobody else's outcomes are left to learn from.
    encoded = np.full(groups.shape, target.mean())
    for number in np.unique(fold):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if len(rest):
            fitted = fit_target_means(groups[:, rest], target[rest], shrinkage)
            keys, means = fitted["target.keys"], fitted["target.means"]
            overall = float(fitted["overall"][0])
            encoded[:, held] = smoothed_means(keys, means, groups[:, held], TARGET_ABOVE, overall)
    return encoded
