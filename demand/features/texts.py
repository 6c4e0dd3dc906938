"""The texts of ads as words and n-grams, read once for all that is made of them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.features.columns import AdColumns, Floats
from demand.features.keys import PARAMS
from demand.features.text import count_letters
from demand.features.words import Occurrences, Words

# Characters of a title that are read: the bound of the schema.
TITLE_LETTERS_MAX = 200
# What is read at most for one letter that is kept: a description may be of 5 MB.
_SEPARATORS_MAX = 8
_NO_LETTERS = re.compile(r"[\W_]+")
RARITY_BUCKETS = 1 << 15
RARITY_SHIFT = np.uint64(64 - 15)  # the upper bits of a hash are the mixed ones
# Steps of the rarity that is kept in 8 bits: from 1 (in every ad) to 1 + log of the ads.
RARITY_STEP = 1.0 / 16.0


@dataclass(frozen=True)
class Texts:
    """What the texts of n ads consist of.

    Parameters
    ----------
    words
        Distinct words of the columns title, description (its beginning), param_1,
        param_2 and param_3: one after the other, n rows each.
    in_order
        All words of title and description, rows (n, 2 n) being those of descriptions.
    title_grams, description_grams
        Distinct n-grams of letters; rows of the latter are (n, 2 n).
    title_letters, description_letters
        Letters and digits of the titles and of the whole descriptions; shape (n,).
    """

    words: Occurrences
    in_order: Occurrences
    title_grams: Occurrences
    description_grams: Occurrences
    title_letters: Floats
    description_letters: Floats


def read_texts(ads: AdColumns, settings: FeatureSettings) -> Texts:
    """Read the texts of n ads."""
    n = ads.rows
    limit = settings.description_letters_max
    descriptions = ads.text["description"]
    # One column after the other, read at once: a call costs more than a text.
    texts = [_beginning(text, TITLE_LETTERS_MAX) for text in ads.text["title"]]
    texts += [_beginning(text, limit) for text in descriptions]
    for name in PARAMS:
        texts += [_beginning(text, TITLE_LETTERS_MAX) for text in ads.text[name]]
    words = Words.of(texts, settings.word_letters)
    letters = words.letters.astype(np.float64)
    description_letters = letters[n : 2 * n]
    for row, text in enumerate(descriptions):
        if text and len(text) > limit:
            description_letters[row] = count_letters(text)
    return Texts(
        words=words.stems.distinct(),
        in_order=words.stems.before(2 * n),
        title_grams=words.grams(2, 5, 0, n).distinct(),
        description_grams=words.grams(3, 4, n, 2 * n).distinct(),
        title_letters=letters[:n],
        description_letters=description_letters,
    )


def count_grams(texts: Texts) -> NDArray[np.int64]:
    """Count n-grams by bucket, each once a text; shape (``RARITY_BUCKETS``,)."""
    found = np.concatenate([texts.title_grams.hashed, texts.description_grams.hashed])
    return np.bincount((found >> RARITY_SHIFT).astype(np.int64), minlength=RARITY_BUCKETS)


def rarity_of(counts: NDArray[np.int64], rows: int) -> NDArray[np.uint8]:
    """Return how rare the n-grams of each bucket are, shape (``RARITY_BUCKETS``,).

    The inverse document frequency, 1 + log((1 + ads) / (1 + ads with it)), rounded to
    ``RARITY_STEP`` (Spärck Jones, *Journal of Documentation* 1972).
    """
    rarity = 1.0 + np.log((1.0 + rows) / (1.0 + np.minimum(counts, rows)))
    steps: NDArray[np.uint8] = np.minimum(np.rint(rarity / RARITY_STEP), 255).astype(np.uint8)
    return steps


def _beginning(text: str | None, limit: int) -> str | None:
    """Cut a text to ``limit`` characters, of which what only separates words is one a gap."""
    if text is None or len(text) <= limit:
        return text
    composed = unicodedata.normalize("NFC", text[: _SEPARATORS_MAX * limit])
    return _NO_LETTERS.sub(" ", composed).strip()[:limit]
