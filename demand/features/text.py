"""Text of an ad as stable hashes: stems of words, and n-grams of letters within words.

Texts are composed (macOS may write й as two characters) and lower-cased, and ``ё``
becomes ``е``. A stem is a word's first letters, which joins most Russian inflections.
Punctuation, emoji and white space only separate words, so they cannot change a
prediction. A column of texts is hashed at once: one long array of code points instead of
a million small strings.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# The hash of "no value": the golden ratio's bits, which no text is likely to have.
MISSING = 0x9E3779B9
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_SPACE = np.uint64(32)
# What lies beyond the basic plane, emoji and mathematical letters above all, separates words.
_PLANE = 0x10000


def normalise(text: str) -> str:
    """Compose letters and accents (NFC), lower-case, and fold ``ё`` into ``е``."""
    return unicodedata.normalize("NFC", text).lower().replace("ё", "е")


@lru_cache(maxsize=1 << 15)
def hash_value(value: str) -> int:
    """Hash a category-like value, blind to case, ``ё`` and outer white space: CRC-32 of UTF-8."""
    return crc32(normalise(value).strip().encode("utf-8", "surrogatepass"))


def hash_values(values: list[str | None]) -> Hashes:
    """Hash a column of category-like values, shape (n,); missing has a hash of its own."""
    return np.array([MISSING if v is None else hash_value(v) for v in values], dtype=np.uint64)


def join(first: Hashes, second: Hashes | int) -> Hashes:
    """Combine two hashes into one that depends on their order; it wraps around.

    Cheap, and different wherever they are; but its bits are not evenly mixed.
    """
    return first * _GOLDEN + (np.uint64(second) if isinstance(second, int) else second)


def mix(first: Hashes, second: Hashes | int) -> Hashes:
    """Combine two hashes into a 64-bit one of evenly mixed bits that depends on their order.

    The finaliser is splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    z = join(first, second)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class Occurrences:
    """Things that occur in texts, such as words: the row and the hash of each.

    Parameters
    ----------
    row, hashed
        Both of shape (m,).
    """

    row: NDArray[np.int64]
    hashed: Hashes

    def distinct(self) -> Occurrences:
        """Keep one of those that occur in a text more than once."""
        # One sort of one number each: two that are different collide at 1 in 2^64.
        joined = mix(self.hashed, self.row.astype(np.uint64))
        order = np.argsort(joined)  # of equals any may stay
        ordered = joined[order]
        repeated = np.zeros(len(order), dtype=bool)
        repeated[order[1:]] = ordered[1:] == ordered[:-1]
        return self.where(~repeated)

    def where(self, chosen: NDArray[np.bool_]) -> Occurrences:
        """Keep those of a mask of shape (m,)."""
        return Occurrences(self.row[chosen], self.hashed[chosen])

    def between(self, first: int, last: int) -> Occurrences:
        """Keep rows from ``first`` to before ``last``, counted from there; rows must be sorted."""
        place = slice(*np.searchsorted(self.row, [first, last]))
        return Occurrences(self.row[place] - first, self.hashed[place])


@dataclass(frozen=True)
class Letters:
    """A column of n texts as one array of code points, single spaces around every word.

    Parameters
    ----------
    code, row
        Code point and row of each character, both of shape (m,); rows are sorted.
    is_letter
        Whether it is a letter or digit, shape (m,); all else is a space.
    rows
        Number of texts, n.
    """

    code: Hashes
    row: NDArray[np.int64]
    is_letter: NDArray[np.bool_]
    rows: int

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Letters:
        """Read texts; None counts as empty."""
        padded = [f" {normalise(text)} " if text else " " for text in texts]
        code = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        row = np.repeat(np.arange(len(texts)), [len(text) for text in padded])
        is_letter = _letters_table()[np.minimum(code, _PLANE)]
        kept = np.ones(len(code), dtype=bool)
        kept[1:] = is_letter[1:] | is_letter[:-1] | (row[1:] != row[:-1])
        spaced = np.where(is_letter, code, _SPACE).astype(np.uint64)
        return cls(spaced[kept], row[kept], is_letter[kept], len(texts))

    def head(self, rows: int) -> Letters:
        """Return the first texts."""
        end = np.searchsorted(self.row, rows)
        return Letters(self.code[:end], self.row[:end], self.is_letter[:end], rows)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Letters and digits of each text, shape (n,)."""
        return np.bincount(self.row[self.is_letter], minlength=self.rows)

    def stems(self, letters: int) -> Occurrences:
        """Return the words of each text, cut to their first ``letters``, text after text."""
        start = np.flatnonzero(self.is_letter[1:] & ~self.is_letter[:-1]) + 1
        hashed = self.code[start]
        # Every text ends with a space, so no word runs past the end.
        within = np.ones(len(start), dtype=bool)
        for place in range(1, letters):
            at = np.minimum(start + place, len(self.code) - 1)
            within &= self.is_letter[at]
            hashed = np.where(within, _append(hashed, self.code[at]), hashed)
        return Occurrences(self.row[start], hashed)

    def grams(self, shortest: int, longest: int) -> list[Occurrences]:
        """Return the n-grams of letters of each size, the spaces around a word included.

        As scikit-learn's ``char_wb``: no n-gram reaches into the next word.
        """
        n, hashed = len(self.code), self.code
        inside = np.ones(n, dtype=bool)
        found = []
        for size in range(2, longest + 1):
            hashed = _append(hashed[: max(n - size + 1, 0)], self.code[size - 1 :])
            # Only the ends may be spaces: what was last and is now within must be a letter.
            # Of two characters, one must be; two spaces are the border of two texts.
            if size == 2:
                inside = self.is_letter[1:] | self.is_letter[:-1]
            else:
                inside = inside[:-1] & self.is_letter[size - 2 : -1]
            if size >= shortest:
                at = np.flatnonzero(inside)
                found.append(Occurrences(self.row[at], hashed[at]))
        return found


def _append(hashed: Hashes, code: Hashes) -> Hashes:
    """Hash on: the hash of a text and its next character, shape (n,); it wraps around."""
    longer = hashed * _GOLDEN + code
    return longer ^ (longer >> _SHIFT)


@cache
def _letters_table() -> NDArray[np.bool_]:
    """Say of each code point whether it is a letter or digit; the last stands for all beyond."""
    return np.array([chr(code).isalnum() for code in range(_PLANE)] + [False])
