"""Shrunk means of the target: down the chain of params, and beside it.

In training they are taken out of fold by the caller; afterwards from the full tables.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import Floats
from demand.features.compiled import compiled
from demand.features.group_means import GroupMeans
from demand.features.keys import CATEGORY_LEVEL, PARAM_1_LEVEL, Keys
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
_ABOVE = np.array([-1 if above is None else STATISTICS.index(above) for above in ABOVE.values()])


def statistics_keys(keys: Keys, price_bin: Hashes) -> Hashes:
    """Return the group of each ad for each of the statistics, shape (statistics, n)."""
    return _groups(
        keys.mixed_chain,
        keys.chain[CATEGORY_LEVEL],
        keys.chain[PARAM_1_LEVEL],
        keys.of("image_top_1"),
        keys.of("user_type"),
        keys.of("region"),
        keys.of("city"),
        price_bin,
    )


@compiled
def _groups(
    mixed_chain: Hashes,
    category: Hashes,
    param_1: Hashes,
    image: Hashes,
    user_type: Hashes,
    region: Hashes,
    city: Hashes,
    price_bin: Hashes,
) -> Hashes:
    """Put those beside the chain behind it, in the order of ``STATISTICS``."""
    levels, rows = mixed_chain.shape
    groups = np.empty((levels + 8, rows), np.uint64)
    for row in range(rows):
        groups[:levels, row] = mixed_chain[:, row]
        beside = (
            join(category[row], image[row]),
            join(category[row], user_type[row]),
            join(category[row], price_bin[row]),
            join(param_1[row], price_bin[row]),
            join(category[row], region[row]),
            image[row],
            region[row],
            join(region[row], city[row]),
        )
        for number in range(len(beside)):
            # The levels of the chain have the salts before.
            salt = np.uint64(levels + number)
            groups[levels + number, row] = mix(beside[number], salt)
    return groups


def fit_statistics(groups: Hashes, target: Floats, shrinkage: float) -> dict[str, NDArray[Any]]:
    """Fit the tables of target means.

    Parameters
    ----------
    groups
        Of n ads, shape (statistics, n), see :func:`statistics_keys`.
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


def look_up_statistics(arrays: dict[str, NDArray[Any]], groups: Hashes) -> Floats:
    """Read target means from fitted tables: (statistics, n) groups to the same shape."""
    return GroupMeans.read(arrays, "target").resolve(groups, _ABOVE, arrays["overall"][0])
