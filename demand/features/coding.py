"""Ads as arrays alone, the form in which compiled code takes them.

What Python has verbs for is done here: composing, lower-casing and hashing texts, and the
logarithms of numbers.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import AdColumns, Floats
from demand.features.keys import PARAMS, hash_texts
from demand.features.text import Hashes, code_points, count_letters

# Characters of a title that are read: the bound of the schema.
TITLE_LETTERS_MAX = 200
# What is read at most for one letter that is kept: a description may be of 5 MB.
_SEPARATORS_MAX = 8
_WORD = re.compile(r"[^\W_]+")

# Rows of the numbers of ads.
ROUBLES, LOG_PRICE, SEQUENCE_NUMBER, IMAGE_CLASS, HAS_IMAGE, WEEKDAY, ALL_LETTERS = range(7)
READ_WHOLE = -1.0


class CodedAds(NamedTuple):
    """The arrays of n ads.

    Parameters
    ----------
    code, first
        Characters of titles, descriptions, param_1, param_2 and param_3, n texts each, see
        :func:`demand.features.text.code_points`; shapes (m,) and (5 n + 1,).
    hashes
        Of the columns :data:`demand.features.keys.TEXTS`, shape (8, n).
    numbers
        Shape (7, n): the price in roubles, and log(1 + roubles); the ad's number among its
        seller's; the image's class; 1 where there is an image and else 0; the day of the
        week; letters and digits of a description that is longer than what ``code`` has of
        it, and else -1. All but these are NaN where missing.
    """

    code: NDArray[np.uint32]
    first: NDArray[np.int64]
    hashes: Hashes
    numbers: Floats


def code_ads(ads: AdColumns, letters_max: int) -> CodedAds:
    """Turn n ads into arrays; of a description the first ``letters_max`` characters are read."""
    text, descriptions = ads.text, ads.text["description"]
    # One column after the other, read at once: a call costs more than a text.
    texts = [_beginning(value, TITLE_LETTERS_MAX) for value in text["title"]]
    texts += [_beginning(value, letters_max) for value in descriptions]
    for name in PARAMS:
        texts += [_beginning(value, TITLE_LETTERS_MAX) for value in text[name]]
    numbers = code_numbers(ads)
    for ad, value in enumerate(descriptions):
        if value and len(value) > letters_max:
            numbers[ALL_LETTERS, ad] = count_letters(value)
    return CodedAds(*code_points(texts), hash_texts(ads), numbers)


def code_numbers(ads: AdColumns) -> Floats:
    """Return :attr:`CodedAds.numbers`, as of descriptions that ``code`` has the whole of."""
    number = ads.number
    numbers = np.empty((7, ads.rows))
    numbers[ROUBLES] = number["price"]
    # By numpy, as the edges of bins are: prices lie on edges, and libraries differ in the last bit.
    np.log1p(np.maximum(number["price"], 0.0), out=numbers[LOG_PRICE])
    numbers[SEQUENCE_NUMBER] = number["item_seq_number"]
    numbers[IMAGE_CLASS] = number["image_top_1"]
    numbers[HAS_IMAGE] = [image is not None for image in ads.text["image"]]
    numbers[WEEKDAY] = ads.weekday
    numbers[ALL_LETTERS] = READ_WHOLE
    return numbers


def _beginning(text: str | None, limit: int) -> str | None:
    """Cut a text to ``limit`` characters, of which what only separates words is one a gap."""
    if text is None or len(text) <= limit:
        return text
    composed = unicodedata.normalize("NFC", text[: _SEPARATORS_MAX * limit])
    return " ".join(_WORD.findall(composed))[:limit]
