"""The price level of a group of ads: the mean logarithm, down the chain of params."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import AdColumns, Floats
from demand.features.group_means import GroupMeans
from demand.features.keys import CATEGORY_LEVEL, CHAIN, Keys

_ABOVE = np.arange(-1, len(CHAIN) - 1)  # each level of the chain falls back to the one before
PRICE_SHRINKAGE = 5.0  # rows; price levels settle faster than outcomes


@dataclass(frozen=True)
class Prices:
    """Logarithms of the prices of n ads and of what is usual, each of shape (n,).

    Parameters
    ----------
    log
        log(1 + roubles); NaN where the price is missing.
    of_category, of_params
        Mean of the category, and of the deepest params that are known.
    """

    log: Floats
    of_category: Floats
    of_params: Floats


def fit_price(arrays: dict[str, NDArray[Any]], ads: AdColumns, keys: Keys, bins: int) -> None:
    """Learn the bins of the price and its level (mean log) down the chain."""
    logs = _log(ads)
    known = np.flatnonzero(np.isfinite(logs))
    log_price = logs[known]
    overall = float(np.median(log_price)) if len(known) else 0.0
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    arrays["price_bins"] = np.quantile(log_price, inner) if len(known) else np.zeros(1)
    arrays["price_overall"] = np.array([overall])
    level, tables = np.full(len(known), overall), []
    for chain in keys.mixed_chain[:, known]:
        tables.append(GroupMeans.fit(chain, log_price, level, shrinkage=PRICE_SHRINKAGE))
        level = tables[-1].lookup(chain, level)
    GroupMeans.together(tables).store(arrays, "price")


def prices(arrays: dict[str, NDArray[Any]], ads: AdColumns, keys: Keys) -> Prices:
    """Return the prices of ads, and the levels that were learnt."""
    overall = arrays["price_overall"][0]
    level = GroupMeans.read(arrays, "price").resolve(keys.mixed_chain, _ABOVE, overall)
    return Prices(_log(ads), level[CATEGORY_LEVEL], level[-1])


def _log(ads: AdColumns) -> Floats:
    price = ads.number["price"]
    return np.where(np.isfinite(price), np.log1p(np.maximum(price, 0.0)), np.nan)
