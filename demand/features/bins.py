"""Numbers as pairs of neighbouring bins, so that a weight a bin makes a broken line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import Floats
from demand.features.text import Hashes

# Behind all bins of all scales; what is missing weighs as much as what is known.
MISSING_BIN = 1_000


@dataclass(frozen=True)
class Scale:
    """Evenly spaced bins.

    Parameters
    ----------
    first
        Where the first bin is centred.
    step
        Distance of two centres, in the unit of the number.
    count
        Number of bins, at least 2; what lies outside belongs to the outermost.
    """

    first: float
    step: float
    count: int


@dataclass(frozen=True)
class Bins:
    """Two bins of each of n numbers.

    Parameters
    ----------
    number, weight
        Both of shape (n, 2); the squares of a row's weights sum up to 1.
    """

    number: Hashes
    weight: NDArray[np.float64]


def binned(values: Sequence[Floats], scales: Sequence[Scale]) -> list[Bins]:
    """Place numbers between the centres of two bins; NaN is a bin of its own.

    The weights fall linearly with the distance to the centre, and are scaled to a sum of
    squares of 1: an additive model then gives a price and its neighbours similar answers
    (a first-order B-spline; Eilers and Marx, *Statistical Science* 1996).

    Parameters
    ----------
    values
        Of each scale, shape (n,).
    """
    value = np.stack(values)
    first, step, count = np.array([(s.first, s.step, s.count) for s in scales]).T[:, :, None]
    missing = np.isnan(value)
    place = np.clip((np.where(missing, 0.0, value) - first) / step, 0.0, count - 1)
    below = np.minimum(np.floor(place), count - 2)
    share = place - below
    weight = np.stack([1.0 - share, share], axis=2)
    weight /= np.sqrt(share**2 + (1.0 - share) ** 2)[:, :, None]
    number = np.stack([below, below + 1], axis=2)
    number[missing], weight[missing] = MISSING_BIN, (1.0, 0.0)
    return [Bins(n, w) for n, w in zip(number.astype(np.uint64), weight, strict=True)]
