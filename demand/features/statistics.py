"""Shrunk means of the target: down the chain of params, and beside it.

In training they are taken out of fold by the caller; afterwards from the full tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import Floats
from demand.features.group_means import GroupMeans
from demand.features.text import Hashes, mix
from demand.features.tokens import CATEGORY_LEVEL, PARAM_1_LEVEL, Keys

STATISTICS = (
    "parent",
    "category",
    "param_1",
    "param_2",
    "param_3",
    "category_image",
    "category_user_type",
    "category_price",
    "param_1_price",
    "category_region",
    "image",
    "region",
    "city",
)

Table = Callable[[str, Hashes, Floats], GroupMeans]


def _crosses(keys: Keys, price_bin: Hashes) -> dict[str, Hashes]:
    """Group of each ad for the statistics that lie beside the chain."""
    category, param_1 = keys.chain[CATEGORY_LEVEL], keys.chain[PARAM_1_LEVEL]
    value = keys.value
    return {
        "category_image": mix(mix(category, value["image_top_1"]), 1),
        "category_user_type": mix(mix(category, value["user_type"]), 2),
        "category_price": mix(mix(category, price_bin), 3),
        "param_1_price": mix(mix(param_1, price_bin), 4),
        "category_region": mix(mix(category, value["region"]), 5),
        "image": mix(value["image_top_1"], 6),
        "region": mix(value["region"], 7),
        "city": mix(mix(value["region"], value["city"]), 8),
    }


def _walk(
    keys: Keys, price_bin: Hashes, rows: NDArray[np.int64], overall: float, table: Table
) -> Floats:
    """Go through the statistics in order, each from the estimate above it.

    ``table(name, keys, above)`` returns the group means to look up: fitted there and
    then in training, or the saved ones.
    """
    columns: dict[str, Floats] = {}
    start = above = np.full(len(rows), overall)
    for name, chain in zip(STATISTICS[:5], keys.chain, strict=True):
        above = columns[name] = table(name, chain[rows], above).lookup(chain[rows], above)
    for name, cross in _crosses(keys, price_bin).items():
        parents = {"image": start, "region": start, "city": columns.get("region", start)}
        base = parents.get(name, columns["param_1"])
        columns[name] = table(name, cross[rows], base).lookup(cross[rows], base)
    return np.stack([columns[name] for name in STATISTICS], axis=1)


def fit_statistics(
    keys: Keys, price_bin: Hashes, rows: NDArray[np.int64], target: Floats, shrinkage: float
) -> dict[str, NDArray[Any]]:
    """Fit the tables of target means on ``rows``; ``target`` has shape (n,)."""
    arrays: dict[str, NDArray[Any]] = {"overall": np.array([target[rows].mean()])}

    def fit(name: str, groups: Hashes, above: Floats) -> GroupMeans:
        means = GroupMeans.fit(groups, target[rows], above, shrinkage=shrinkage)
        means.store(arrays, f"target.{name}")
        return means

    _walk(keys, price_bin, rows, float(arrays["overall"][0]), fit)
    return arrays


def look_up_statistics(
    arrays: dict[str, NDArray[Any]], keys: Keys, price_bin: Hashes, rows: NDArray[np.int64]
) -> Floats:
    """Read the target means of ``rows`` from fitted tables, shape (rows, statistics)."""

    def saved(name: str, groups: Hashes, above: Floats) -> GroupMeans:
        del groups, above
        return GroupMeans.read(arrays, f"target.{name}")

    return _walk(keys, price_bin, rows, float(arrays["overall"][0]), saved)
