"""The texts of ads as words and n-grams, compiled: read once for all that is made of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from demand.features.coding import ALL_LETTERS, READ_WHOLE, CodedAds
from demand.features.columns import Floats
from demand.features.compiled import compilable, compiled
from demand.features.words import Occurrences, distinct, find_grams, find_words

RARITY_BUCKETS = 1 << 15
RARITY_SHIFT = np.uint64(64 - 15)  # the upper bits of a hash are the mixed ones
# Steps of the rarity that is kept in 8 bits: from 1 (in every ad) to 1 + log of the ads.
RARITY_STEP = 1.0 / 16.0


class Reading(NamedTuple):
    """How texts are read.

    Parameters
    ----------
    is_letter
        See :func:`demand.features.text.letters_table`.
    stem
        How many letters of a word count.
    """

    is_letter: NDArray[np.bool_]
    stem: int


class Texts(NamedTuple):
    """What the texts of n ads consist of.

    Parameters
    ----------
    words
        Distinct words of the columns title, description (its beginning), param_1,
        param_2 and param_3: one after the other, n rows each.
    in_order
        All words of these columns.
    title_grams, description_grams
        Distinct n-grams of letters.
    title_letters, description_letters
        Letters and digits of the titles and of the whole descriptions; shape (n,).
    """

    words: Occurrences
    in_order: Occurrences
    title_grams: Occurrences
    description_grams: Occurrences
    title_letters: Floats
    description_letters: Floats


@compiled
def read_texts(ads: CodedAds, reading: Reading) -> Texts:
    """Read the texts of n ads."""
    n = ads.numbers.shape[1]
    found = find_words(ads.code, ads.first, reading.is_letter, reading.stem)
    title_letters, description_letters = np.empty(n), np.empty(n)
    for ad in range(n):
        title_letters[ad] = found.letters[ad]
        description_letters[ad] = found.letters[n + ad]
        if ads.numbers[ALL_LETTERS, ad] != READ_WHOLE:
            description_letters[ad] = ads.numbers[ALL_LETTERS, ad]
    return Texts(
        distinct(found.stems),
        found.stems,
        distinct(find_grams(ads.code, found, 2, 5, 0, n)),
        distinct(find_grams(ads.code, found, 3, 4, n, 2 * n)),
        title_letters,
        description_letters,
    )


@compilable
def count_grams(texts: Texts) -> NDArray[np.int64]:
    """Count n-grams by bucket, each once a text; shape (``RARITY_BUCKETS``,)."""
    counts = np.zeros(RARITY_BUCKETS, np.int64)
    for hashed in texts.title_grams.hashed:
        counts[hashed >> RARITY_SHIFT] += 1
    for hashed in texts.description_grams.hashed:
        counts[hashed >> RARITY_SHIFT] += 1
    return counts


def rarity_of(counts: NDArray[np.int64], rows: int) -> NDArray[np.uint8]:
    """Return how rare the n-grams of each bucket are, shape (``RARITY_BUCKETS``,).

    The inverse document frequency, 1 + log((1 + ads) / (1 + ads with it)), rounded to
    ``RARITY_STEP`` (Spärck Jones, *Journal of Documentation* 1972).
    """
    rarity = 1.0 + np.log((1.0 + rows) / (1.0 + np.minimum(counts, rows)))
    steps: NDArray[np.uint8] = np.minimum(np.rint(rarity / RARITY_STEP), 255).astype(np.uint8)
    return steps
