"""The features of a block of ads, compiled: one call for all of them.

A call costs as much as a tenth of an ad, and one for each feature as much as several ads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.coding import IMAGE_CLASS, SEQUENCE_NUMBER, CodedAds
from demand.features.columns import Floats
from demand.features.compiled import compilable, compiled
from demand.features.flags import FLAGS, put_flags
from demand.features.keys import join_keys
from demand.features.learned import named
from demand.features.numbers import NUMBERS, ad_numbers, put_numbers
from demand.features.price_level import PriceLevels, prices
from demand.features.sequences import word_sequences
from demand.features.statistics import (
    STATISTICS,
    TargetMeans,
    look_up_statistics,
    put_statistics,
    statistics_groups,
)
from demand.features.text import Hashes
from demand.features.texts import Reading, count_grams, read_texts
from demand.features.tokens import hash_tokens

_STATISTICS = len(STATISTICS)


@compilable
def dense_width(bins: int, user_types: int) -> int:
    """Return the number of dense features, d, for all bins of numbers and types of sellers."""
    return bins + NUMBERS + FLAGS + user_types + _STATISTICS


@compiled
def measure(
    ads: CodedAds, reading: Reading, levels: PriceLevels
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the numbers of n ads, shape (6, n), and their n-grams by bucket of rarity."""
    keys = join_keys(ads.hashes, ads.numbers[IMAGE_CLASS])
    texts = read_texts(ads, reading)
    price = prices(ads.numbers, keys.mixed_chain, levels)
    return ad_numbers(texts, price, ads.numbers[SEQUENCE_NUMBER]), count_grams(texts)


@compiled
def features(
    of_ads: tuple[Any, ...], of_learned: tuple[Any, ...], of_target: tuple[Any, ...]
) -> tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.int64],
    Hashes,
]:
    """Return all that is said of n ads.

    Parameters
    ----------
    of_ads, of_learned, of_target
        :class:`demand.features.coding.CodedAds`, :class:`demand.features.learned.Learned`
        and :class:`demand.features.statistics.TargetMeans`, as plain tuples: see
        :func:`demand.features.compiled.plain`.

    Returns
    -------
    row, bucket, weight
        See :class:`demand.features.tokens.SparseAds`.
    dense
        Shape (n, d); the last columns are the statistics.
    words
        See :func:`demand.features.sequences.word_sequences`.
    groups
        Which the statistics are of, see :func:`demand.features.statistics.statistics_groups`.
    """
    ads, learned, target = CodedAds(*of_ads), named(of_learned), TargetMeans(*of_target)
    rows = ads.numbers.shape[1]
    keys = join_keys(ads.hashes, ads.numbers[IMAGE_CLASS])
    texts = read_texts(ads, learned.reading)
    price = prices(ads.numbers, keys.mixed_chain, learned.levels)
    bins = len(learned.scales.low)
    dense = np.empty((rows, dense_width(bins, len(learned.user_types))), np.float32)
    put_numbers(dense, ad_numbers(texts, price, ads.numbers[SEQUENCE_NUMBER]), learned.scales)
    put_flags(
        dense[:, bins + NUMBERS :],
        ads.numbers,
        keys.values,
        price.log,
        texts.description_letters,
        learned.user_types,
    )
    groups = statistics_groups(keys, price.log, learned.price_bins)
    means = look_up_statistics(target.keys, target.means, target.overall, groups)
    put_statistics(dense, means, target.center, target.scale)
    tokens = hash_tokens(ads, keys, texts, price, learned.hashing, learned.rarity, learned.of_texts)
    longest, buckets = learned.sequence_words, learned.sequence_buckets
    words = word_sequences(texts.in_order, rows, longest, buckets)
    return tokens.row, tokens.bucket, tokens.weight, dense, words, groups
