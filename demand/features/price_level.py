"""The price level of a group of ads: the mean logarithm, down the chain of params."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import AdColumns, Floats
from demand.features.group_means import GroupMeans
from demand.features.tokens import CATEGORY_LEVEL, Keys

PRICE_SHRINKAGE = 5.0  # rows; price levels settle faster than outcomes


def fit_price(arrays: dict[str, NDArray[Any]], ads: AdColumns, keys: Keys, bins: int) -> None:
    """Learn the bins of the price and its level (mean log) down the chain."""
    price = ads.number["price"]
    known = np.flatnonzero(np.isfinite(price))
    log_price = np.log1p(np.maximum(price[known], 0.0))
    overall = float(np.median(log_price)) if len(known) else 0.0
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    arrays["price_bins"] = np.quantile(log_price, inner) if len(known) else np.zeros(1)
    arrays["price_overall"] = np.array([overall])
    level = np.full(len(known), overall)
    for number, chain in enumerate(keys.chain):
        table = GroupMeans.fit(chain[known], log_price, level, shrinkage=PRICE_SHRINKAGE)
        table.store(arrays, f"price.{number}")
        level = table.lookup(chain[known], level)


def price_levels(
    arrays: dict[str, NDArray[Any]], ads: AdColumns, keys: Keys
) -> tuple[NDArray[np.bool_], Floats, Floats, Floats]:
    """Return missing, log price, level of the category, level of the deepest param; each (n,)."""
    price = ads.number["price"]
    missing = ~np.isfinite(price)
    log_price = np.log1p(np.maximum(np.where(missing, 0.0, price), 0.0))
    levels = [np.full(ads.rows, arrays["price_overall"][0])]
    for number, chain in enumerate(keys.chain):
        levels.append(GroupMeans.read(arrays, f"price.{number}").lookup(chain, levels[-1]))
    return missing, log_price, levels[CATEGORY_LEVEL + 1], levels[-1]
