"""The groups of tokens of an ad, compiled: one loop over ads, words and n-grams each.

All compiled functions that call each other stand in this file, see
:func:`demand.features.compiled.compiled`.
"""

from __future__ import annotations

from enum import IntEnum
from math import floor, isfinite, isnan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import Floats
from demand.features.compiled import compiled
from demand.features.keys import CATEGORY_LEVEL, PARAM_2_LEVEL, VALUES
from demand.features.text import Hashes, join, mix
from demand.features.texts import RARITY_SHIFT, RARITY_STEP

# Behind all bins of all scales; what is missing weighs as much as what is known.
MISSING_BIN = 1_000
TOKENS_AN_AD = 24  # beside those of words and n-grams
_CITY, _REGION = VALUES.index("city"), VALUES.index("region")
_USER_TYPE, _IMAGE = VALUES.index("user_type"), VALUES.index("image_top_1")
_NOTHING, _ONE, _SIGN = np.uint64(0), np.uint64(1), np.uint64(40)


class Group(IntEnum):
    """Groups of tokens. A name is the salt of its hashes: renaming one invalidates models."""

    PARENT_CATEGORY = 0
    CATEGORY = 1
    PARAM_CHAIN = 2
    USER_TYPE = 3
    USER_TYPE_IMAGE = 4
    IMAGE_CLASS = 5
    CITY = 6
    PRICE_ROUNDNESS = 7
    TITLE_GRAMS = 8
    TITLE_WORDS = 9
    TITLE_WORDS_USER_TYPE = 10
    DESCRIPTION_GRAMS = 11
    DESCRIPTION_WORDS = 12
    DESCRIPTION_WORDS_USER_TYPE = 13
    PARAM_1_WORDS = 14
    PARAM_2_WORDS = 15
    PARAM_3_WORDS = 16
    PARAM_WORDS_PRICE = 17
    PRICE_OVER_LEVEL = 18
    CATEGORY_PRICE = 19
    CATEGORY_USER_TYPE_PRICE = 20
    IMAGE_PRICE = 21
    PARENT_TITLE_LENGTH = 22
    PARENT_DESCRIPTION_LENGTH = 23
    USER_TYPE_DESCRIPTION_LENGTH = 24
    PARENT_SEQUENCE = 25


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


@compiled
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


class Hashing(NamedTuple):
    """How tokens are hashed: salt and scale of each group, and the number of buckets."""

    salt: Hashes
    scale: Floats
    buckets: np.uint64


class Tokens(NamedTuple):
    """Where tokens are written: ad, bucket and weight of each, shape (m,).

    The functions below write from ``end`` on and return where they ended.
    """

    row: NDArray[np.int32]
    bucket: NDArray[np.int32]
    weight: NDArray[np.float32]


@compiled
def _add(
    tokens: Tokens,
    end: int,
    hashing: Hashing,
    ad: int,
    group: int,
    hashed: np.uint64,
    weight: float,
) -> int:
    mixed = mix(hashed, hashing.salt[group])
    sign = -1.0 if (mixed >> _SIGN) & _ONE == _NOTHING else 1.0
    tokens.row[end] = ad
    tokens.bucket[end] = mixed % hashing.buckets
    tokens.weight[end] = weight * hashing.scale[group] * sign
    return end + 1


@compiled
def _cross(
    tokens: Tokens,
    end: int,
    hashing: Hashing,
    ad: int,
    group: int,
    hashed: np.uint64,
    bins: Bins,
    weight: float,
) -> int:
    lower, upper = join(hashed, np.uint64(bins.lower)), join(hashed, np.uint64(bins.upper))
    end = _add(tokens, end, hashing, ad, group, lower, weight * bins.lower_weight)
    return _add(tokens, end, hashing, ad, group, upper, weight * bins.upper_weight)


@compiled
def _no_image(image: np.uint64) -> np.uint64:
    return _ONE if image == _NOTHING else _NOTHING


@compiled
def _roundness(price: float) -> np.uint64:
    """Say by which power of ten, up to a thousand, a price can be divided."""
    if not isfinite(price) or price < 0:
        return np.uint64(0)
    if price == 0:
        return np.uint64(1)
    kind = 2
    for power in (1000.0, 100.0, 10.0):
        if price % power == 0:
            break
        kind += 1
    return np.uint64(kind)


@compiled
def add_values(
    tokens: Tokens, end: int, hashing: Hashing, chain: Hashes, values: Hashes, price: Floats
) -> int:
    """Add what is one token an ad.

    Parameters
    ----------
    chain, values
        See :class:`demand.features.keys.Keys`; shapes (5, n) and (values, n).
    price
        Roubles, shape (n,).
    """
    for ad in range(len(price)):
        user_type, image = values[_USER_TYPE, ad], values[_IMAGE, ad]
        city = join(values[_REGION, ad], values[_CITY, ad])
        with_image = join(user_type, _no_image(image))
        roundness = _roundness(price[ad])
        end = _add(tokens, end, hashing, ad, Group.PARENT_CATEGORY, chain[0, ad], 1.0)
        end = _add(tokens, end, hashing, ad, Group.CATEGORY, chain[CATEGORY_LEVEL, ad], 1.0)
        end = _add(tokens, end, hashing, ad, Group.PARAM_CHAIN, chain[PARAM_2_LEVEL, ad], 1.0)
        end = _add(tokens, end, hashing, ad, Group.USER_TYPE, user_type, 1.0)
        end = _add(tokens, end, hashing, ad, Group.USER_TYPE_IMAGE, with_image, 1.0)
        end = _add(tokens, end, hashing, ad, Group.IMAGE_CLASS, image, 1.0)
        end = _add(tokens, end, hashing, ad, Group.CITY, city, 1.0)
        end = _add(tokens, end, hashing, ad, Group.PRICE_ROUNDNESS, roundness, 1.0)
    return end


@compiled
def add_numbers(
    tokens: Tokens, end: int, hashing: Hashing, chain: Hashes, values: Hashes, numbers: Floats
) -> int:
    """Add the two bins of each number, shape (6, n), crossed with values."""
    for ad in range(numbers.shape[1]):
        parent, category = chain[0, ad], chain[CATEGORY_LEVEL, ad]
        user_type = values[_USER_TYPE, ad]
        of_both, no_image = join(category, user_type), _no_image(values[_IMAGE, ad])
        price = place_number(numbers[PRICE, ad], SCALES[PRICE])
        fine_price = place_number(numbers[FINE_PRICE, ad], SCALES[FINE_PRICE])
        over_level = place_number(numbers[OVER_LEVEL, ad], SCALES[OVER_LEVEL])
        text = place_number(numbers[DESCRIPTION, ad], SCALES[DESCRIPTION])
        title = place_number(numbers[TITLE, ad], SCALES[TITLE])
        sequence = place_number(numbers[SEQUENCE, ad], SCALES[SEQUENCE])
        end = _cross(tokens, end, hashing, ad, Group.PRICE_OVER_LEVEL, _NOTHING, over_level, 1.0)
        end = _cross(tokens, end, hashing, ad, Group.CATEGORY_PRICE, category, fine_price, 1.0)
        end = _cross(tokens, end, hashing, ad, Group.CATEGORY_USER_TYPE_PRICE, of_both, price, 1.0)
        end = _cross(tokens, end, hashing, ad, Group.IMAGE_PRICE, no_image, price, 1.0)
        end = _cross(tokens, end, hashing, ad, Group.PARENT_DESCRIPTION_LENGTH, parent, text, 1.0)
        end = _cross(
            tokens, end, hashing, ad, Group.USER_TYPE_DESCRIPTION_LENGTH, user_type, text, 1.0
        )
        end = _cross(tokens, end, hashing, ad, Group.PARENT_TITLE_LENGTH, parent, title, 1.0)
        end = _cross(tokens, end, hashing, ad, Group.PARENT_SEQUENCE, parent, sequence, 1.0)
    return end


@compiled
def add_words(
    tokens: Tokens,
    end: int,
    hashing: Hashing,
    row: NDArray[np.int64],
    hashed: Hashes,
    values: Hashes,
    log_price: Floats,
    of_texts: bool,
) -> int:
    """Add words: alone, of texts with the type of seller, of params with the price.

    Those of a column give an ad unit length, and so do those of all params together.

    Parameters
    ----------
    row, hashed
        Distinct words of title, description and params, n rows each; shape (words,).
    of_texts
        Whether those of title and description are added.
    """
    n = len(log_price)
    counts, in_params = np.zeros(5 * n, np.int64), np.zeros(n, np.int64)
    for word in range(len(row)):
        counts[row[word]] += 1
        if row[word] >= 2 * n:
            in_params[row[word] % n] += 1
    for word in range(len(row)):
        column, ad = row[word] // n, row[word] % n
        weight = 1.0 / sqrt(counts[row[word]])
        if column >= 2:
            group = Group.PARAM_1_WORDS + column - 2
            price = place_number(log_price[ad], SCALES[PRICE])
            together = 1.0 / sqrt(in_params[ad])
            end = _add(tokens, end, hashing, ad, group, hashed[word], weight)
            end = _cross(
                tokens, end, hashing, ad, Group.PARAM_WORDS_PRICE, hashed[word], price, together
            )
        elif of_texts:
            group, crossed = Group.TITLE_WORDS + 0, Group.TITLE_WORDS_USER_TYPE + 0
            if column == 1:
                group = Group.DESCRIPTION_WORDS + 0
                crossed = Group.DESCRIPTION_WORDS_USER_TYPE + 0
            of_seller = join(hashed[word], values[_USER_TYPE, ad])
            end = _add(tokens, end, hashing, ad, group, hashed[word], weight)
            end = _add(tokens, end, hashing, ad, crossed, of_seller, weight)
    return end


@compiled
def add_grams(
    tokens: Tokens,
    end: int,
    hashing: Hashing,
    group: int,
    row: NDArray[np.int64],
    hashed: Hashes,
    rarity: NDArray[np.uint8],
) -> int:
    """Add the n-grams of one column; the rarer one is, the more it weighs within its text.

    Parameters
    ----------
    row, hashed
        Ad and hash of each, shape (grams,); rows are sorted.
    """
    first = 0
    while first < len(row):
        last, squares = first, 0.0
        while last < len(row) and row[last] == row[first]:
            squares += (rarity[hashed[last] >> RARITY_SHIFT] * RARITY_STEP) ** 2
            last += 1
        for gram in range(first, last):
            weight = rarity[hashed[gram] >> RARITY_SHIFT] * RARITY_STEP / sqrt(squares)
            end = _add(tokens, end, hashing, row[gram], group, hashed[gram], weight)
        first = last
    return end
