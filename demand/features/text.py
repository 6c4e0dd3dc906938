"""Text of an ad as stable hashes of word stems.

A word is composed (macOS may write й as two characters) and lower-cased, ``ё`` becomes
``е``, and it is cut to its first letters, which joins most Russian inflections.
Punctuation, emoji and white space vanish, so they cannot change a prediction.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

WORD = re.compile(r"[^\W_]+")
# The hash of "no value": the golden ratio's bits, which no text is likely to have.
MISSING = 0x9E3779B9


def normalise(text: str) -> str:
    """Compose letters and accents (NFC), lower-case, and fold ``ё`` into ``е``."""
    return unicodedata.normalize("NFC", text).lower().replace("ё", "е")


@lru_cache(maxsize=1 << 17)
def hash_word(word: str) -> int:
    """Hash a word to 32 bits: CRC-32 of its UTF-8, the same on every machine."""
    return crc32(word.encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=1 << 15)
def hash_value(value: str) -> int:
    """Hash a category-like value, blind to case, ``ё`` and outer white space."""
    return crc32(normalise(value).strip().encode("utf-8", "surrogatepass"))


def hash_values(values: list[str | None]) -> Hashes:
    """Hash a column of category-like values, shape (n,); missing has a hash of its own."""
    return np.array([MISSING if v is None else hash_value(v) for v in values], dtype=np.uint64)


def words(text: str | None, limit: int) -> list[str]:
    """Return the distinct words among the first ``limit`` of ``text``; none for None."""
    return list(dict.fromkeys(WORD.findall(normalise(text))[:limit])) if text else []


def mix(first: Hashes, second: Hashes | int) -> Hashes:
    """Combine two hashes into a 64-bit one that depends on their order, shape (n,).

    The finaliser is splitmix64 (Steele, Lea and Flood, OOPSLA 2014); it wraps around.
    """
    other = np.uint64(second) if isinstance(second, int) else second
    z = first * np.uint64(0x9E3779B97F4A7C15) + other
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
