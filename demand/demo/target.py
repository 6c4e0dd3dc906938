"""The deal probability itself: drawn so that its mean is the one that was asked for.

An ad gets exactly zero, a small value, or one of the high levels where the real targets
pile up. How often each, follows from the mean alone.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise

import numpy as np

from demand.demo.exact import piecewise
from demand.demo.hashing import Floats, Indices, Keys, cumulative, pick, uniform
from demand.demo.shape import PARENT_SHAPES, SMALL_LEVELS, parent_of_category

_LOWEST_HIGH = 0.65


@dataclass(frozen=True)
class _Levels:
    """Where the nonzero targets of one parent category lie: on piles and between."""

    pile_ends: Floats
    piles: Floats
    knots: Floats
    values: Floats
    mean: float


def _levels(
    piles: tuple[tuple[float, float], ...], knots: tuple[float, ...], values: tuple[float, ...]
) -> _Levels:
    """Combine piles and what lies between; the mean is that of drawing from both."""
    shares = [share for _, share in piles]
    rest = 1.0 - math.fsum(shares)
    between = 0.0
    for (start, low), (end, high) in pairwise(zip(knots, values, strict=True)):
        between += (end - start) * (low + high) / 2.0
    mean = rest * between
    for level, share in piles:
        mean += level * share
    return _Levels(
        pile_ends=cumulative([*shares, rest]),
        piles=np.array([level for level, _ in piles]),
        knots=np.array(knots),
        values=np.array(values),
        mean=mean,
    )


@cache
def _small() -> tuple[_Levels, ...]:
    return tuple(
        _levels(s.small_piles, SMALL_LEVELS, s.small_levels) for s in PARENT_SHAPES.values()
    )


@cache
def _high() -> tuple[_Levels, ...]:
    return tuple(
        _levels(s.spikes, (0.0, 1.0), (_LOWEST_HIGH, s.spikes[0][0]))
        for s in PARENT_SHAPES.values()
    )


@cache
def small_parts() -> Floats:
    """Return the part of a low mean that comes from small values, by parent, shape (9,).

    Found by ``benchmarks.demo_calibration``: fitted to the parents' shares of zeros.
    """
    raw = json.loads((files("demand.demo") / "calibration.json").read_text(encoding="utf-8"))
    return np.array([raw["small_part"][name] for name in PARENT_SHAPES], dtype=np.float64)


def chances(
    means: Floats, parents: Indices, small_part: Floats | None = None
) -> tuple[Floats, Floats]:
    """Return the chances of a small and of a high value that give each mean.

    Parameters
    ----------
    means
        Conditional means, at most 0.70, shape (ads,).
    parents
        Indices of the parent categories, shape (ads,).
    small_part
        Other than :func:`small_parts`, for calibrating.
    """
    small = np.array([levels.mean for levels in _small()])[parents]
    high = np.array([levels.mean for levels in _high()])[parents]
    part = (small_parts() if small_part is None else small_part)[parents]
    # A high mean leaves no room for many small values: both chances sum up to at most
    # 98 % here, or the part of small values is cut.
    room = np.maximum(0.98 - means / high, 0.0) / (means * (1.0 / small - 1.0 / high))
    part = np.minimum(part, room)
    return part * means / small, (1.0 - part) * means / high


def draw_targets(means: Floats, category: Indices, row_keys: Keys) -> Floats:
    """Return deal probabilities with five decimals, shape (ads,)."""
    parents = parent_of_category()[category]
    small, high = chances(means, parents)
    which = uniform(row_keys, "deal")
    targets = np.zeros(len(means))
    for index in range(len(PARENT_SHAPES)):
        here = parents == index
        for table, chosen in (
            (_high()[index], here & (which < high)),
            (_small()[index], here & (which >= high) & (which < high + small)),
        ):
            targets[chosen] = _draw(table, row_keys[chosen])
    return targets


def _draw(table: _Levels, keys: Keys) -> Floats:
    pile = pick(uniform(keys, "pile"), table.pile_ends)
    between = piecewise(uniform(keys, "between"), table.knots, table.values)
    between = np.floor(between * 100_000.0 + 0.5) / 100_000.0
    in_pile = pile < len(table.piles)
    return np.where(in_pile, table.piles[np.minimum(pile, len(table.piles) - 1)], between)
