"""The numbers of an ad for the deep path: piecewise-linear, and scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import AdColumns, Floats
from demand.features.price_level import Prices
from demand.features.texts import Texts

CLIP = 5.0  # standard deviations, so that an absurd value cannot dominate
_NAME = "numbers"


def sequence_number(ads: AdColumns) -> Floats:
    """Return log(1 + the ad's number among its seller's), shape (n,); missing is the first."""
    number = ads.number["item_seq_number"]
    log: Floats = np.log1p(np.maximum(np.where(np.isnan(number), 1.0, number), 0.0))
    return log


def ad_numbers(texts: Texts, prices: Prices, sequence: Floats) -> Floats:
    """Return price, price over its level twice, lengths and sequence number, shape (6, n)."""
    missing = np.isnan(prices.log)
    numbers = np.empty((6, len(sequence)))
    numbers[0] = np.where(missing, prices.of_params, prices.log)
    numbers[1] = np.where(missing, 0.0, prices.log - prices.of_params)
    numbers[2] = np.where(missing, 0.0, prices.log - prices.of_category)
    numbers[3] = np.log1p(texts.description_letters)
    numbers[4] = np.log1p(texts.title_letters)
    numbers[5] = sequence
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
        f"{_NAME}.low": np.concatenate(low),
        f"{_NAME}.width": np.concatenate(high) - np.concatenate(low),
        f"{_NAME}.which": np.concatenate(which),
        f"{_NAME}.center": numbers.mean(axis=1),
        f"{_NAME}.scale": numbers.std(axis=1) + 1e-6,
    }


def width_of_numbers(arrays: dict[str, NDArray[Any]]) -> int:
    """Return how many rows :func:`encode_numbers` gives."""
    return len(arrays[f"{_NAME}.low"]) + len(arrays[f"{_NAME}.center"])


def encode_numbers(arrays: dict[str, NDArray[Any]], numbers: Floats) -> list[Floats]:
    """Encode numbers by how far they have come through each bin, and scaled.

    (Gorishniy et al., *On embeddings for numerical features*, NeurIPS 2022.)

    Parameters
    ----------
    numbers
        Shape (6, n).

    Returns
    -------
    list of numpy.ndarray
        Shares of bins that are passed, shape (bins of all, n), in [0, 1]; and standard
        deviations from the mean, shape (6, n).
    """
    low, width, which = (arrays[f"{_NAME}.{part}"] for part in ("low", "width", "which"))
    passed = (numbers[which] - low[:, None]) / width[:, None]
    return [
        np.minimum(np.maximum(passed, 0.0), 1.0),
        clipped(numbers, arrays[f"{_NAME}.center"], arrays[f"{_NAME}.scale"]),
    ]


def clipped(values: Floats, center: Floats, scale: Floats) -> Floats:
    """Return values as bounded standard deviations from the mean, both of shape (s, n)."""
    scaled = (values - center[:, None]) / scale[:, None]
    bounded: Floats = np.minimum(np.maximum(scaled, -CLIP), CLIP)
    return bounded
