"""The price level of a group of ads: the mean logarithm, down the chain of params."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demand.features.coding import LOG_PRICE, ROUBLES
from demand.features.columns import Floats
from demand.features.compiled import compilable, compiled
from demand.features.group_means import GroupMeans, resolve
from demand.features.keys import CATEGORY_LEVEL, LEVELS
from demand.features.text import Hashes

_ABOVE = np.arange(-1, LEVELS - 1)  # each level of the chain falls back to the one before
PRICE_SHRINKAGE = 5.0  # rows; price levels settle faster than outcomes


class PriceLevels(NamedTuple):
    """The levels that were learnt: see :class:`demand.features.group_means.GroupMeans`.

    Parameters
    ----------
    keys, means
        Mean logarithm of the groups that are known, shape (g,).
    overall
        That of a group without one above it.
    """

    keys: NDArray[np.uint32]
    means: NDArray[np.float32]
    overall: float


class Prices(NamedTuple):
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


def fit_price(
    arrays: dict[str, NDArray[Any]], logs: Floats, mixed_chain: Hashes, bins: int
) -> None:
    """Learn the bins of the price and its level (mean log) down the chain.

    Parameters
    ----------
    logs
        As :attr:`Prices.log`, shape (n,).
    mixed_chain
        See :class:`demand.features.keys.Keys`, shape (5, n).
    """
    known = np.flatnonzero(np.isfinite(logs))
    log_price = logs[known]
    overall = float(np.median(log_price)) if len(known) else 0.0
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    arrays["price_bins"] = np.quantile(log_price, inner) if len(known) else np.zeros(1)
    arrays["price_overall"] = np.array([overall])
    level, tables = np.full(len(known), overall), []
    chains: Iterable[Hashes] = mixed_chain[:, known]
    for chain in chains:
        tables.append(GroupMeans.fit(chain, log_price, level, shrinkage=PRICE_SHRINKAGE))
        level = tables[-1].lookup(chain, level)
    GroupMeans.together(tables).store(arrays, "price")


@compiled
def log_prices(numbers: Floats) -> Floats:
    """Return log(1 + roubles) of n ads, NaN where the price is missing, shape (n,).

    Parameters
    ----------
    numbers
        See :class:`demand.features.coding.CodedAds`.
    """
    logs = np.empty(numbers.shape[1])
    for ad in range(len(logs)):
        logs[ad] = numbers[LOG_PRICE, ad] if isfinite(numbers[ROUBLES, ad]) else nan
    return logs


@compilable
def prices(numbers: Floats, mixed_chain: Hashes, levels: PriceLevels) -> Prices:
    """Return the prices of n ads, and the levels that were learnt."""
    level = resolve(levels.keys, levels.means, mixed_chain, _ABOVE, levels.overall)
    return Prices(log_prices(numbers), level[CATEGORY_LEVEL], level[LEVELS - 1])
