"""What was learned of ads, as compiled code takes it: that looks at no shape, so it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from demand.config import FeatureSettings
from demand.features.columns import Floats
from demand.features.compiled import compilable
from demand.features.flags import user_types
from demand.features.groups import Hashing
from demand.features.numbers import NUMBERS, NumberScales
from demand.features.price_level import PriceLevels
from demand.features.statistics import STATISTICS, TargetMeans
from demand.features.text import Hashes, letters_table
from demand.features.texts import RARITY_BUCKETS, Reading
from demand.features.tokens import hashing

Arrays = Mapping[str, NDArray[Any]]

# Stands in while target means are not yet known.
NO_MEANS = TargetMeans(
    np.empty(0, np.uint32),
    np.empty(0, np.float32),
    0.0,
    np.zeros(len(STATISTICS)),
    np.ones(len(STATISTICS)),
)


class Learned(NamedTuple):
    """What is known before target means are: see where each is made.

    Parameters
    ----------
    price_bins
        Edges of the price's bins, sorted.
    rarity
        Shape (``RARITY_BUCKETS``,).
    user_types
        Hash of each known type of seller.
    of_texts
        Whether words and n-grams of title and description are tokens.
    sequence_words, sequence_buckets
        How many words are read in their order, and the number of their buckets.
    """

    reading: Reading
    levels: PriceLevels
    price_bins: Floats
    scales: NumberScales
    rarity: NDArray[np.uint8]
    user_types: Hashes
    hashing: Hashing
    of_texts: bool
    sequence_words: int
    sequence_buckets: int


@compilable
def named(learned: tuple[Any, ...]) -> Learned:
    """Undo :func:`demand.features.compiled.plain`."""
    reading, levels, price_bins, scales, rarity, user_types, how, of_texts, words, buckets = learned
    return Learned(
        Reading(*reading),
        PriceLevels(*levels),
        price_bins,
        NumberScales(*scales),
        rarity,
        user_types,
        Hashing(*how),
        of_texts,
        words,
        buckets,
    )


def learned(settings: FeatureSettings, arrays: Arrays) -> Learned:
    """Take what was learned before target means.

    Raises
    ------
    LookupError, ValueError
        Arrays are missing, or do not fit together.
    """
    of_texts = settings.text_encoder == "ngrams"
    return Learned(
        reading=reading(settings),
        levels=price_levels(arrays),
        price_bins=_array(arrays, "price_bins", np.float64),
        scales=_number_scales(arrays),
        rarity=_array(arrays, "rarity", np.uint8, RARITY_BUCKETS),
        user_types=user_types(),
        hashing=hashing(settings.buckets),
        of_texts=of_texts,
        sequence_words=0 if of_texts else settings.sequence_words_max,
        sequence_buckets=settings.sequence_buckets,
    )


def target_means(arrays: Arrays) -> TargetMeans:
    """Take the target means; as :func:`learned`."""
    keys = _array(arrays, "target.keys", np.uint32)
    return TargetMeans(
        keys,
        _array(arrays, "target.means", np.float32, len(keys)),
        float(_array(arrays, "overall", np.float64, 1)[0]),
        _array(arrays, "center", np.float64, len(STATISTICS)),
        _array(arrays, "scale", np.float64, len(STATISTICS)),
    )


def reading(settings: FeatureSettings) -> Reading:
    """Return how texts are read."""
    return Reading(letters_table(), settings.word_letters)


def price_levels(arrays: Arrays) -> PriceLevels:
    """Take what :func:`demand.features.price_level.fit_price` learned."""
    keys = _array(arrays, "price.keys", np.uint32)
    means = _array(arrays, "price.means", np.float32, len(keys))
    return PriceLevels(keys, means, float(_array(arrays, "price_overall", np.float64, 1)[0]))


def _number_scales(arrays: Arrays) -> NumberScales:
    low = _array(arrays, "numbers.low", np.float64)
    which = _array(arrays, "numbers.which", np.int64, len(low))
    if not ((which >= 0) & (which < NUMBERS)).all():
        raise ValueError(f"numbers.which lies outside [0, {NUMBERS})")
    width = _array(arrays, "numbers.width", np.float64, len(low))
    center, scale = (
        _array(arrays, f"numbers.{name}", np.float64, NUMBERS) for name in ("center", "scale")
    )
    return NumberScales(low, width, which, center, scale)


def _array(arrays: Arrays, name: str, dtype: DTypeLike, length: int | None = None) -> NDArray[Any]:
    """Return an array as compiled code takes it, which looks at no shape itself.

    Raises
    ------
    LookupError, ValueError
        It is missing, or its shape is not (length,).
    """
    array = np.array(arrays[name], dtype)  # a copy: compiled code differs for one that is read-only
    if array.ndim != 1 or length not in (None, len(array)):
        raise ValueError(f"{name} has the shape {array.shape}, not ({length or 'rows'},)")
    return array
