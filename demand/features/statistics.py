"""Shrunk means of the target: down the chain of params, and beside it.

In training they are taken out of fold by the caller; afterwards from the full tables.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import Floats
from demand.features.compiled import compilable, compiled
from demand.features.group_means import GroupMeans, resolve
from demand.features.keys import (
    CATEGORY_LEVEL,
    CITY,
    IMAGE,
    LEVELS,
    PARAM_1_LEVEL,
    REGION,
    USER_TYPE,
    Keys,
)
from demand.features.numbers import put_scaled
from demand.features.text import Hashes, join, mix

# Each statistic and the one that stands in for it where a group is unknown.
ABOVE = {
    "parent": None,
    "category": "parent",
    "param_1": "category",
    "param_2": "param_1",
    "param_3": "param_2",
    "category_image": "param_1",
    "category_user_type": "param_1",
    "category_price": "param_1",
    "param_1_price": "param_1",
    "category_region": "param_1",
    "image": None,
    "region": None,
    "city": "region",
}
STATISTICS = tuple(ABOVE)
BESIDE = len(STATISTICS) - LEVELS
_PRICE_MISSING = np.uint64(1 << 32)  # more than any number of bins
_ABOVE = np.array([-1 if above is None else STATISTICS.index(above) for above in ABOVE.values()])


class TargetMeans(NamedTuple):
    """What was learnt: see :class:`demand.features.group_means.GroupMeans`.

    Parameters
    ----------
    keys, means
        Mean target of the groups that are known, shape (g,).
    overall
        Mean target of all ads.
    center, scale
        Mean and standard deviation of each statistic among training ads, shape (s,).
    """

    keys: NDArray[np.uint32]
    means: NDArray[np.float32]
    overall: float
    center: Floats
    scale: Floats


@compilable
def statistics_groups(keys: Keys, log_price: Floats, price_bins: Floats) -> Hashes:
    """Return the group of each ad for each of the statistics, shape (s, n).

    Those beside the chain stand behind it, in the order of ``STATISTICS``.

    Parameters
    ----------
    log_price
        Shape (n,), NaN where missing.
    price_bins
        Edges, sorted.
    """
    levels, rows = keys.chain.shape
    groups = np.empty((levels + BESIDE, rows), np.uint64)
    for row in range(rows):
        category, param_1 = keys.chain[CATEGORY_LEVEL, row], keys.chain[PARAM_1_LEVEL, row]
        image, region = keys.values[IMAGE, row], keys.values[REGION, row]
        price_bin = _PRICE_MISSING
        if not np.isnan(log_price[row]):
            price_bin = np.uint64(np.searchsorted(price_bins, log_price[row]))
        beside = (
            join(category, image),
            join(category, keys.values[USER_TYPE, row]),
            join(category, price_bin),
            join(param_1, price_bin),
            join(category, region),
            image,
            region,
            join(region, keys.values[CITY, row]),
        )
        for level in range(levels):
            groups[level, row] = keys.mixed_chain[level, row]
        for number in range(BESIDE):
            # The levels of the chain have the salts before.
            salt = np.uint64(levels + number)
            groups[levels + number, row] = mix(beside[number], salt)
    return groups


def fit_statistics(groups: Hashes, target: Floats, shrinkage: float) -> dict[str, NDArray[Any]]:
    """Fit the tables of target means.

    Parameters
    ----------
    groups
        Of n ads, shape (s, n), see :func:`statistics_groups`.
    target
        Shape (n,).
    """
    overall = target.mean()
    columns: dict[str | None, Floats] = {None: np.full(len(target), overall)}
    tables = []
    for name, group in zip(STATISTICS, groups, strict=True):
        above = columns[ABOVE[name]]
        tables.append(GroupMeans.fit(group, target, above, shrinkage=shrinkage))
        columns[name] = tables[-1].lookup(group, above)
    arrays: dict[str, NDArray[Any]] = {"overall": np.array([overall])}
    GroupMeans.together(tables).store(arrays, "target")
    return arrays


def out_of_fold(
    groups: Hashes, target: Floats, fold: NDArray[np.int64], shrinkage: float
) -> Floats:
    """Return statistics of n ads that none of their fold have a say in, (s, n).

    Parameters
    ----------
    groups
        Shape (s, n).
    target, fold
        Shape (n,).
    """
    # Where all ads fall into one fold, nobody else's outcomes are left to learn from.
    statistics = np.full(groups.shape, target.mean())
    for number in np.unique(fold):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if len(rest):
            known = fit_statistics(groups[:, rest], target[rest], shrinkage)
            keys, means = known["target.keys"], known["target.means"]
            overall = float(known["overall"][0])
            statistics[:, held] = look_up_statistics(keys, means, overall, groups[:, held])
    return statistics


@compiled
def look_up_statistics(
    keys: NDArray[np.uint32], means: NDArray[np.float32], overall: float, groups: Hashes
) -> Floats:
    """Read target means from fitted tables: (s, n) groups to the same shape."""
    return resolve(keys, means, groups, _ABOVE, overall)


@compiled
def put_statistics(
    dense: NDArray[np.float32], statistics: Floats, center: Floats, scale: Floats
) -> None:
    """Write statistics, shape (s, n), scaled, into the last columns of (n, d)."""
    put_scaled(dense[:, dense.shape[1] - len(center) :], statistics, center, scale)
