"""The sparse part of an ad: words, values and their crosses in signed hash buckets."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.features.columns import AdColumns
from demand.features.text import Hashes, hash_values, hash_word, mix, words

# Salts keep a word in the title apart from the same word elsewhere. They are part of
# the model's format: changing one invalidates saved models.
TITLE, DESCRIPTION, TITLE_PAIR = 1, 2, 3
VALUE_SALTS = {
    "parent_category_name": 10,
    "category_name": 11,
    "param_1": 12,
    "param_2": 13,
    "param_3": 14,
    "region": 15,
    "city": 16,
    "user_type": 17,
    "image_top_1": 18,
}
CHAIN = ("parent_category_name", "category_name", "param_1", "param_2", "param_3")
CATEGORY_LEVEL, PARAM_1_LEVEL = 1, 2
PRICE_MISSING = 99
IMAGE_CLASS_MAX = 1e9
# Adam steps by sign, so an input's scale is its own learning rate: halving the tokens
# against the dense features was better on real ads.
TOKEN_WEIGHT = 0.5


@dataclass(frozen=True)
class Words:
    """Word hashes of one text column, row after row.

    Parameters
    ----------
    row, hashed
        Row and hash of each word, both of shape (m,).
    counts, letters
        Words and letters of each row, both of shape (n,).
    """

    row: NDArray[np.int64]
    hashed: Hashes
    counts: NDArray[np.int64]
    letters: NDArray[np.int64]


@dataclass(frozen=True)
class Keys:
    """Hashes of an ad's values, each of shape (n,).

    Parameters
    ----------
    value
        One hash for each column of ``VALUE_SALTS``.
    chain
        parent, category, param_1, param_2, param_3: each joined with those before it.
    """

    value: dict[str, Hashes]
    chain: list[Hashes]


def hash_words(texts: list[str | None], limit: int, letters: int) -> tuple[Words, list[list[str]]]:
    """Hash the stems of each text; also return the words themselves."""
    lists = [words(text, limit) for text in texts]
    counts = np.array([len(found) for found in lists], dtype=np.int64)
    hashed = np.array(
        [hash_word(word[:letters]) for found in lists for word in found], dtype=np.uint64
    )
    size = np.array([sum(map(len, found)) for found in lists], dtype=np.int64)
    return Words(np.repeat(np.arange(len(lists)), counts), hashed, counts, size), lists


def hash_keys(ads: AdColumns) -> Keys:
    """Hash the category-like columns and the chain of categories and params."""
    value = {name: hash_values(ads.text[name]) for name in VALUE_SALTS if name != "image_top_1"}
    image = ads.number["image_top_1"]
    # What a cast to integers makes of other numbers depends on the machine.
    known = (image >= 0) & (image <= IMAGE_CLASS_MAX)
    value["image_top_1"] = np.where(known, image + 1, 0).astype(np.uint64)
    chain = [mix(value[CHAIN[0]], 1)]
    for name in CHAIN[1:]:
        chain.append(mix(chain[-1], value[name]))
    return Keys(value, chain)


@dataclass(frozen=True)
class SparseRows:
    """Weighted buckets of n ads in compressed rows.

    Parameters
    ----------
    starts
        Where each row begins, shape (n + 1,).
    buckets
        Bucket of each token, shape (m,), in [0, number of buckets).
    weights
        Signed weight of each token, shape (m,), float32.
    """

    starts: NDArray[np.int64]
    buckets: NDArray[np.int64]
    weights: NDArray[np.float32]


Group = tuple[NDArray[np.int64], Hashes, NDArray[np.float64]]


def sparse_rows(
    ads: AdColumns,
    keys: Keys,
    title: Words,
    description: Words,
    title_words: list[list[str]],
    price_bin: Hashes,
    settings: FeatureSettings,
) -> SparseRows:
    """Hash all tokens of the ads into ``settings.buckets`` signed buckets.

    Words of one field share a weight of 1 / √(words of the field), so that a long
    description does not shout down a short one; single values weigh 1.
    (Weinberger et al., *Feature hashing for large scale multitask learning*, ICML 2009.)
    """
    rows = np.arange(ads.rows)
    one = np.ones(ads.rows)
    category, param_1 = keys.chain[CATEGORY_LEVEL], keys.chain[PARAM_1_LEVEL]
    pairs = [
        [a[: settings.word_letters] + "_" + b[: settings.word_letters] for a, b in pairwise(w)]
        for w in title_words
    ]
    pair_counts = np.array([len(found) for found in pairs], dtype=np.int64)
    pair_rows = np.repeat(rows, pair_counts)
    pair_hashes = np.array([hash_word(p) for found in pairs for p in found], dtype=np.uint64)
    title_weight = _shared(title.counts, title.row)
    groups: list[Group] = [
        (title.row, mix(title.hashed, TITLE), title_weight),
        (
            description.row,
            mix(description.hashed, DESCRIPTION),
            _shared(description.counts, description.row),
        ),
        (pair_rows, mix(pair_hashes, TITLE_PAIR), _shared(pair_counts, pair_rows)),
        (title.row, mix(mix(title.hashed, category[title.row]), 34), title_weight),
    ]
    groups += [(rows, mix(keys.value[name], salt), one) for name, salt in VALUE_SALTS.items()]
    groups += [
        (rows, mix(hashed, 30 + number), one)
        for number, hashed in enumerate(
            [
                *keys.chain[PARAM_1_LEVEL:],
                mix(category, price_bin),
                mix(param_1, price_bin),
                mix(category, keys.value["user_type"]),
                mix(category, keys.value["image_top_1"]),
            ]
        )
    ]
    return _compress(groups, ads.rows, settings.buckets)


def _shared(counts: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / np.sqrt(np.maximum(counts, 1)))[row]


def _compress(groups: list[Group], n: int, buckets: int) -> SparseRows:
    """Put the groups' tokens in row order; within a row the groups keep theirs."""
    row = np.concatenate([group[0] for group in groups])
    hashed = np.concatenate([group[1] for group in groups])
    weight = np.concatenate([group[2] for group in groups])
    if n > 1:
        order = np.argsort(row, kind="stable")
        row, hashed, weight = row[order], hashed[order], weight[order]
    sign = np.where((hashed >> np.uint64(40)) & np.uint64(1), 1.0, -1.0)
    starts = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=n), out=starts[1:])
    return SparseRows(
        starts,
        (hashed % np.uint64(buckets)).astype(np.int64),
        (TOKEN_WEIGHT * weight * sign).astype(np.float32),
    )
