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
from demand.features.text import Letters, Occurrences

# Characters of a title that are read: the bound of the schema.
TITLE_LETTERS_MAX = 200
# What is read at most for one letter that is kept: a description may be of 5 MB.
_SEPARATORS_MAX = 8
_NO_LETTERS = re.compile(r"[\W_]+")
RARITY_BUCKETS = 1 << 15
# Steps of the rarity that is kept in 8 bits: from 1 (in every ad) to 1 + log of the ads.
RARITY_STEP = 1.0 / 16.0


@dataclass(frozen=True)
class Texts:
    """What the texts of n ads consist of.

    Parameters
    ----------
    title, description
        Their distinct words; of a description, those of its beginning.
    params
        Those of param_1, param_2 and param_3.
    in_order
        All words of title and description, rows (n, 2 n) being those of descriptions.
    title_grams, description_grams
        n-grams of letters.
    title_letters, description_letters
        Letters and digits of the titles and of the whole descriptions; shape (n,).
    """

    title: Occurrences
    description: Occurrences
    params: tuple[Occurrences, ...]
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
    columns = [
        [_beginning(text, TITLE_LETTERS_MAX) for text in ads.text["title"]],
        [_beginning(text, limit) for text in descriptions],
        *([_beginning(text, TITLE_LETTERS_MAX) for text in ads.text[name]] for name in PARAMS),
    ]
    # One column after the other in one array: what numpy does costs by the call.
    letters = Letters.of([text for column in columns for text in column])
    in_order = letters.stems(settings.word_letters)
    words = in_order.distinct()
    parts = [words.between(first * n, (first + 1) * n) for first in range(len(columns))]
    two, three, four, five = letters.head(2 * n).grams(2, 5)
    return Texts(
        title=parts[0],
        description=parts[1],
        params=tuple(parts[2:]),
        in_order=in_order.between(0, 2 * n),
        title_grams=_joined([grams.between(0, n) for grams in (two, three, four, five)]).distinct(),
        description_grams=_joined([grams.between(n, 2 * n) for grams in (three, four)]).distinct(),
        title_letters=letters.head(n).counts.astype(np.float64),
        description_letters=np.array([_letters(text) for text in descriptions], dtype=np.float64),
    )


def fit_rarity(texts: Texts, rows: int) -> NDArray[np.uint8]:
    """Learn how rare n-grams are, shape (``RARITY_BUCKETS``,).

    The inverse document frequency, 1 + log((1 + ads) / (1 + ads with it)), of hash
    buckets, rounded to ``RARITY_STEP`` (Spärck Jones, *Journal of Documentation* 1972).
    """
    found = np.zeros(RARITY_BUCKETS)
    for grams in (texts.title_grams, texts.description_grams):
        found += np.bincount(rarity_bucket(grams), minlength=RARITY_BUCKETS)
    rarity = 1.0 + np.log((1.0 + rows) / (1.0 + np.minimum(found, rows)))
    steps: NDArray[np.uint8] = np.minimum(np.rint(rarity / RARITY_STEP), 255).astype(np.uint8)
    return steps


def rarity_bucket(grams: Occurrences) -> NDArray[np.int64]:
    """Return the bucket of each n-gram in the table of :func:`fit_rarity`, shape (m,)."""
    return (grams.hashed % np.uint64(RARITY_BUCKETS)).astype(np.int64)


def _beginning(text: str | None, limit: int) -> str | None:
    """Cut a text to ``limit`` characters, of which what only separates words is one a gap."""
    if text is None or len(text) <= limit:
        return text
    composed = unicodedata.normalize("NFC", text[: _SEPARATORS_MAX * limit])
    return _NO_LETTERS.sub(" ", composed).strip()[:limit]


def _letters(text: str | None) -> int:
    return len(_NO_LETTERS.sub("", text)) if text else 0


def _joined(parts: list[Occurrences]) -> Occurrences:
    return Occurrences(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.hashed for part in parts]),
    )
