"""Shapes of the real ads that the demo ads follow, where reference.json has none.

Aggregates measured on the 8,006 real rows, never their text: shares by parent category,
quantiles, the levels where the target piles up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from demand.demo.hashing import Indices
from demand.reference import reference


@dataclass(frozen=True)
class ParentShape:
    """What ads of one parent category look like.

    Parameters
    ----------
    seller_shares
        Shares of private sellers, companies and shops.
    no_image, no_description
        Shares of ads without, in [0, 1].
    zero_share
        Share of targets that are exactly 0.
    spread
        How far the true means of this parent's ads lie apart, as a factor.
    spikes
        The high levels on which targets of this parent pile up, with their shares; the
        rest of the high targets lies between 0.65 and the first of them.
    small_levels
        Quantiles (``SMALL_LEVELS``) of the other targets between 0 and 0.65.
    small_piles
        Levels among those on which targets pile up, with their shares.
    """

    seller_shares: tuple[float, float, float]
    no_image: float
    no_description: float
    zero_share: float
    spread: float
    spikes: tuple[tuple[float, float], ...]
    small_levels: tuple[float, ...]
    small_piles: tuple[tuple[float, float], ...]


SMALL_LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
SELLER_TYPES = ("Private", "Company", "Shop")

PARENT_SHAPES: dict[str, ParentShape] = {
    "Бытовая электроника": ParentShape(
        (0.647, 0.268, 0.085),
        0.059,
        0.075,
        0.589,
        1.0,
        ((0.76786, 0.94), (0.76824, 0.02)),
        (0.031, 0.072, 0.101, 0.164, 0.271, 0.325, 0.649),
        ((0.33973, 0.06), (0.43177, 0.02), (0.03386, 0.02)),
    ),
    "Для бизнеса": ParentShape(
        (0.528, 0.283, 0.189),
        0.075,
        0.038,
        0.566,
        1.0,
        ((0.78912, 0.94),),
        (0.023, 0.039, 0.051, 0.111, 0.164, 0.286, 0.623),
        ((0.25218, 0.1), (0.04136, 0.07), (0.224, 0.05), (0.0828, 0.05)),
    ),
    "Для дома и дачи": ParentShape(
        (0.653, 0.263, 0.084),
        0.059,
        0.066,
        0.647,
        1.0,
        ((0.86521, 0.93), (0.8652, 0.04)),
        (0.039, 0.089, 0.133, 0.217, 0.29, 0.368, 0.639),
        ((0.38925, 0.07), (0.11415, 0.03), (0.15087, 0.03)),
    ),
    "Животные": ParentShape(
        (0.713, 0.275, 0.012),
        0.156,
        0.073,
        0.434,
        1.0,
        ((0.78503, 0.85), (0.78501, 0.02)),
        (0.036, 0.082, 0.119, 0.219, 0.339, 0.413, 0.621),
        ((0.39355, 0.1), (0.20864, 0.03), (0.08918, 0.02)),
    ),
    "Личные вещи": ParentShape(
        (0.815, 0.17, 0.015),
        0.01,
        0.114,
        0.828,
        1.0,
        ((0.80323, 0.965), (0.80322, 0.012)),
        (0.074, 0.118, 0.13, 0.179, 0.235, 0.307, 0.599),
        ((0.12579, 0.08), (0.27307, 0.05), (0.20728, 0.04), (0.12869, 0.04), (0.12734, 0.03)),
    ),
    "Недвижимость": ParentShape(
        (0.486, 0.326, 0.188),
        0.328,
        0.002,
        0.304,
        0.42,
        ((0.70397, 0.34), (0.76824, 0.26), (0.74424, 0.18), (0.88059, 0.05)),
        (0.006, 0.044, 0.075, 0.134, 0.247, 0.38, 0.648),
        ((0.08952, 0.03), (0.03227, 0.02), (0.05193, 0.02), (0.05499, 0.02), (0.03187, 0.02)),
    ),
    "Транспорт": ParentShape(
        (0.731, 0.224, 0.045),
        0.053,
        0.002,
        0.326,
        0.9,
        ((0.7376, 0.83), (0.71647, 0.06), (0.73758, 0.03)),
        (0.014, 0.03, 0.094, 0.233, 0.35, 0.434, 0.635),
        ((0.13892, 0.04), (0.47553, 0.03), (0.17209, 0.03), (0.01232, 0.03)),
    ),
    "Услуги": ParentShape(
        (0.843, 0.146, 0.011),
        0.3,
        0.002,
        0.25,
        0.9,
        ((1.0, 0.61), (0.8, 0.22), (0.75, 0.13), (0.66667, 0.02)),
        (0.125, 0.143, 0.167, 0.167, 0.286, 0.352, 0.429),
        ((0.2, 0.23), (0.6, 0.19), (0.25, 0.145), (0.4, 0.145), (0.5, 0.13)),
    ),
    "Хобби и отдых": ParentShape(
        (0.657, 0.311, 0.032),
        0.034,
        0.079,
        0.715,
        1.0,
        ((0.82668, 0.87), (0.82667, 0.08)),
        (0.047, 0.096, 0.137, 0.185, 0.24, 0.39, 0.603),
        ((0.31492, 0.12), (0.09842, 0.05), (0.24775, 0.04), (0.13378, 0.03)),
    ),
}

# item_seq_number: its quantiles by seller type.
SEQUENCE_LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
SEQUENCE_QUANTILES: dict[str, tuple[float, ...]] = {
    "Private": (1, 2, 6.7, 16.5, 41, 81, 237, 9_000),
    "Company": (1, 21, 55, 128, 337, 1_080, 9_600, 60_000),
    "Shop": (1, 133, 586, 2_613, 8_514, 36_805, 120_534, 204_429),
}

# Quantiles that reference.json gives of the price in each category.
PRICE_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
IMAGE_CLASSES = 3_067


@cache
def parent_of_category() -> Indices:
    """Return the index of each category's parent in ``PARENT_SHAPES``, shape (47,)."""
    names = list(PARENT_SHAPES)
    return np.array([names.index(parent) for parent in reference().parent_of.values()])
