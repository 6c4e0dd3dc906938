"""Yes-or-no facts of an ad, and the day of the week."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from demand.features.coding import HAS_IMAGE, IMAGE_CLASS, WEEKDAY
from demand.features.columns import Floats
from demand.features.compiled import compilable
from demand.features.keys import PARAM_1, PARAM_3, USER_TYPE
from demand.features.text import MISSING, Hashes, hash_values
from demand.reference import reference

FLAGS = 8  # beside those of the types of sellers
_MISSING = np.uint64(MISSING)


def _circle() -> Floats:
    """Return sine and cosine of the days of the week, shape (2, 7)."""
    angle = np.arange(7) * (2 * np.pi / 7)
    return np.array([np.sin(angle), np.cos(angle)])


_DAYS = _circle()


@compilable
def put_flags(
    dense: NDArray[np.float32],
    numbers: Floats,
    values: Hashes,
    log_price: Floats,
    description_letters: Floats,
    user_types: Hashes,
) -> None:
    """Write what is missing, an image, the day of the week and the type of seller.

    Parameters
    ----------
    dense
        Where to write, shape (n, ``FLAGS`` + types); all but sine and cosine of the day
        are 0 or 1.
    numbers
        See :class:`demand.features.coding.CodedAds`.
    values
        See :class:`demand.features.keys.Keys`.
    log_price, description_letters
        Shape (n,); NaN where the price is missing.
    user_types
        Hash of each known type of seller, shape (types,).
    """
    for ad in range(len(dense)):
        dense[ad, 0] = np.isnan(log_price[ad])
        dense[ad, 1] = numbers[HAS_IMAGE, ad] > 0 or np.isfinite(numbers[IMAGE_CLASS, ad])
        dense[ad, 2] = description_letters[ad] == 0
        for param in range(PARAM_1, PARAM_3 + 1):
            dense[ad, 3 + param - PARAM_1] = values[param, ad] == _MISSING
        day = numbers[WEEKDAY, ad]
        for side in range(2):
            dense[ad, 6 + side] = 0.0 if np.isnan(day) else _DAYS[side, int(day)]
        for kind in range(len(user_types)):
            dense[ad, FLAGS + kind] = values[USER_TYPE, ad] == user_types[kind]


@cache
def user_types() -> Hashes:
    """Return the hash of each known type of seller, shape (types,)."""
    return hash_values(list(reference().user_types))
