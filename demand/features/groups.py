"""The groups of tokens of an ad, compiled: one loop over ads, words and n-grams each."""

from __future__ import annotations

from enum import IntEnum
from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from demand.features.bins import (
    DESCRIPTION,
    FINE_PRICE,
    OVER_LEVEL,
    PRICE,
    SCALES,
    SEQUENCE,
    TITLE,
    Bins,
    place_number,
)
from demand.features.columns import Floats
from demand.features.compiled import compilable
from demand.features.keys import (
    CATEGORY_LEVEL,
    CITY,
    IMAGE,
    PARAM_2_LEVEL,
    REGION,
    USER_TYPE,
    Keys,
)
from demand.features.text import Hashes, join, mix
from demand.features.texts import RARITY_SHIFT, RARITY_STEP
from demand.features.words import Occurrences

TOKENS_AN_AD = 24  # beside those of words and n-grams
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


class Hashing(NamedTuple):
    """How tokens are hashed.

    Parameters
    ----------
    salt, scale
        Of each group, shape (groups,).
    buckets
        Number of buckets.
    mask
        One less, where that keeps the bits of the remainder, and else 0: a division takes
        longer than all else that is done for a token.
    """

    salt: Hashes
    scale: Floats
    buckets: np.uint64
    mask: np.uint64


class Tokens(NamedTuple):
    """Where tokens are written: ad, bucket and weight of each, shape (m,).

    The functions below write from ``end`` on and return where they ended.
    """

    row: NDArray[np.int32]
    bucket: NDArray[np.int32]
    weight: NDArray[np.float32]


@compilable
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
    bucket = mixed & hashing.mask if hashing.mask else mixed % hashing.buckets
    tokens.bucket[end] = bucket
    tokens.weight[end] = weight * hashing.scale[group] * sign
    return end + 1


@compilable
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


@compilable
def _no_image(image: np.uint64) -> np.uint64:
    return _ONE if image == _NOTHING else _NOTHING


@compilable
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


@compilable
def add_values(tokens: Tokens, end: int, hashing: Hashing, keys: Keys, price: Floats) -> int:
    """Add what is one token an ad; the price is in roubles, shape (n,)."""
    chain, values = keys.chain, keys.values
    for ad in range(len(price)):
        user_type, image = values[USER_TYPE, ad], values[IMAGE, ad]
        city = join(values[REGION, ad], values[CITY, ad])
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


@compilable
def add_numbers(tokens: Tokens, end: int, hashing: Hashing, keys: Keys, numbers: Floats) -> int:
    """Add the two bins of each number, shape (6, n), crossed with values."""
    chain, values = keys.chain, keys.values
    for ad in range(numbers.shape[1]):
        parent, category = chain[0, ad], chain[CATEGORY_LEVEL, ad]
        user_type = values[USER_TYPE, ad]
        of_both, no_image = join(category, user_type), _no_image(values[IMAGE, ad])
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


@compilable
def add_words(
    tokens: Tokens,
    end: int,
    hashing: Hashing,
    words: Occurrences,
    user_type: Hashes,
    log_price: Floats,
    of_texts: bool,
) -> int:
    """Add words: alone, of texts with the type of seller, of params with the price.

    Those of a column give an ad unit length, and so do those of all params together.

    Parameters
    ----------
    words
        Distinct words of title, description and params, n rows each.
    user_type, log_price
        Shape (n,).
    of_texts
        Whether those of title and description are added.
    """
    row, hashed = words
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
            of_seller = join(hashed[word], user_type[ad])
            end = _add(tokens, end, hashing, ad, group, hashed[word], weight)
            end = _add(tokens, end, hashing, ad, crossed, of_seller, weight)
    return end


@compilable
def add_grams(
    tokens: Tokens,
    end: int,
    hashing: Hashing,
    group: int,
    grams: Occurrences,
    rarity: NDArray[np.uint8],
) -> int:
    """Add the n-grams of one column; the rarer one is, the more it weighs within its text."""
    row, hashed = grams
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
