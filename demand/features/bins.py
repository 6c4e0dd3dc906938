"""Numbers on scales of evenly spaced bins, compiled."""

from __future__ import annotations

from math import floor, isnan, sqrt
from typing import NamedTuple

from demand.features.compiled import compilable

# Behind all bins of all scales; what is missing weighs as much as what is known.
MISSING_BIN = 1_000


class Scale(NamedTuple):
    """Evenly spaced bins.

    Parameters
    ----------
    first
        Where the first bin is centred.
    step
        Distance of two centres, in the unit of the number.
    bins
        Number of bins, at least 2; what lies outside belongs to the outermost.
    """

    first: float
    step: float
    bins: int


class Bins(NamedTuple):
    """The two bins of a number, and their weights, whose squares sum up to 1."""

    lower: int
    upper: int
    lower_weight: float
    upper_weight: float


@compilable
def place_number(value: float, scale: Scale) -> Bins:
    """Place a number between the centres of two bins; NaN has one of its own.

    The weights fall linearly with the distance to the centre, and are scaled to a sum of
    squares of 1: an additive model then gives a price and its neighbours similar answers
    (a first-order B-spline; Eilers and Marx, *Statistical Science* 1996).
    """
    if isnan(value):
        return Bins(MISSING_BIN, MISSING_BIN, 1.0, 0.0)
    place = min(max((value - scale.first) / scale.step, 0.0), scale.bins - 1.0)
    lower = min(floor(place), scale.bins - 2)
    share = place - lower
    length = sqrt(share**2 + (1.0 - share) ** 2)
    return Bins(lower, lower + 1, (1.0 - share) / length, share / length)


# Scales, as numbers of the rows of what is placed on them.
PRICE, FINE_PRICE, OVER_LEVEL, DESCRIPTION, TITLE, SEQUENCE = range(6)
# Logarithm of roubles, twice; of the price over its level; of the characters of the
# description; letters of the title; logarithm of the ad's number.
SCALES = (
    Scale(0.0, 1.0, 26),
    Scale(0.0, 0.5, 51),
    Scale(-4.0, 0.7, 12),
    Scale(0.0, 1.0, 11),
    Scale(0.0, 8.0, 8),
    Scale(0.0, 1.0, 12),
)
