"""The numbers of an ad for the deep path: piecewise-linear, and scaled."""

from __future__ import annotations

from math import isnan, log1p
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import Floats
from demand.features.compiled import compilable
from demand.features.price_level import Prices
from demand.features.texts import Texts

CLIP = 5.0  # standard deviations, so that an absurd value cannot dominate
NUMBERS = 6


class NumberScales(NamedTuple):
    """What was learnt of the numbers.

    Parameters
    ----------
    low, width, which
        Lower edge and width of each bin, and the number that it belongs to; shape (bins,).
    center, scale
        Mean and standard deviation of each number, shape (6,).
    """

    low: Floats
    width: Floats
    which: NDArray[np.int64]
    center: Floats
    scale: Floats


@compilable
def log_of_sequence(number: float) -> float:
    """Return log(1 + an ad's number among its seller's); a missing one is the first."""
    return log1p(max(1.0 if isnan(number) else number, 0.0))


@compilable
def ad_numbers(texts: Texts, prices: Prices, sequence: Floats) -> Floats:
    """Return price, price over its level twice, lengths and sequence number, shape (6, n)."""
    numbers = np.empty((NUMBERS, len(sequence)))
    for ad in range(len(sequence)):
        price = prices.log[ad]
        missing = isnan(price)
        numbers[0, ad] = prices.of_params[ad] if missing else price
        numbers[1, ad] = 0.0 if missing else price - prices.of_params[ad]
        numbers[2, ad] = 0.0 if missing else price - prices.of_category[ad]
        numbers[3, ad] = log1p(texts.description_letters[ad])
        numbers[4, ad] = log1p(texts.title_letters[ad])
        numbers[5, ad] = log_of_sequence(sequence[ad])
    return numbers


def fit_numbers(numbers: Floats, bins: int) -> dict[str, NDArray[Any]]:
    """Learn mean, deviation and the edges of the piecewise-linear encoding, at quantiles."""
    low, high, which = [], [], []
    for row, values in enumerate(numbers):
        edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
        if len(edges) == 1:
            edges = np.append(edges, edges[0] + 1.0)
        low.append(edges[:-1])
        high.append(edges[1:])
        which.append(np.full(len(edges) - 1, row))
    return {
        "numbers.low": np.concatenate(low),
        "numbers.width": np.concatenate(high) - np.concatenate(low),
        "numbers.which": np.concatenate(which),
        "numbers.center": numbers.mean(axis=1),
        "numbers.scale": numbers.std(axis=1) + 1e-6,
    }


@compilable
def put_numbers(dense: NDArray[np.float32], numbers: Floats, scales: NumberScales) -> None:
    """Encode numbers by how far they have come through each bin, and scaled.

    (Gorishniy et al., *On embeddings for numerical features*, NeurIPS 2022.)

    Parameters
    ----------
    dense
        Where to write, shape (n, bins + 6): shares of bins that are passed, in [0, 1], and
        standard deviations from the mean.
    numbers
        Shape (6, n).
    """
    bins = len(scales.low)
    for ad in range(len(dense)):
        for place in range(bins):
            come = numbers[scales.which[place], ad] - scales.low[place]
            dense[ad, place] = min(max(come / scales.width[place], 0.0), 1.0)
    put_scaled(dense[:, bins:], numbers, scales.center, scales.scale)


@compilable
def put_scaled(dense: NDArray[np.float32], values: Floats, center: Floats, scale: Floats) -> None:
    """Write values, shape (s, n), as bounded standard deviations from the mean: (n, s)."""
    for ad in range(len(dense)):
        for row in range(len(center)):
            scaled = (values[row, ad] - center[row]) / scale[row]
            dense[ad, row] = min(max(scaled, -CLIP), CLIP)
