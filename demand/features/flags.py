"""Yes-or-no facts of an ad, and the day of the week."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import AdColumns, Floats
from demand.features.keys import PARAMS, VALUES, Keys
from demand.features.text import MISSING, Hashes, hash_values
from demand.reference import reference

_OF_PARAMS = slice(VALUES.index(PARAMS[0]), VALUES.index(PARAMS[-1]) + 1)
_NO_DAY = 7


def _circle() -> Floats:
    """Return sine and cosine of the days of the week, and zeros for no day; shape (2, 8)."""
    angle = np.arange(7) * (2 * np.pi / 7)
    return np.pad([np.sin(angle), np.cos(angle)], ((0, 0), (0, 1)))


_DAYS = _circle()


def flags(
    ads: AdColumns, keys: Keys, price_missing: NDArray[np.bool_], no_description: NDArray[np.bool_]
) -> Floats:
    """Return what is missing, an image, the day of the week and the type of seller.

    Returns
    -------
    numpy.ndarray
        Shape (:func:`width_of_flags`, n); all but sine and cosine of the day are 0 or 1.
    """
    user_types = _user_types()
    known = np.empty((8 + len(user_types), ads.rows))
    known[0] = price_missing
    known[1] = [image is not None for image in ads.text["image"]]
    known[1] = np.maximum(known[1], np.isfinite(ads.number["image_top_1"]))
    known[2] = no_description
    known[3:6] = keys.values[_OF_PARAMS] == MISSING
    day = np.where(np.isnan(ads.weekday), _NO_DAY, ads.weekday).astype(np.intp)
    known[6:8] = _DAYS[:, day]
    known[8:] = keys.of("user_type") == user_types
    return known


def width_of_flags() -> int:
    """Return how many rows :func:`flags` gives."""
    return 8 + len(_user_types())


@cache
def _user_types() -> Hashes:
    """Return the hash of each known type of seller, shape (types, 1)."""
    return hash_values(list(reference().user_types))[:, None]
