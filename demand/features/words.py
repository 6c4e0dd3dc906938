"""Stems of words, and n-grams of letters within words.

A stem is a word's first letters, which joins most Russian inflections. Punctuation, emoji
and white space only separate words, so they cannot change a prediction. A hash of letters
is a polynomial in an odd number that wraps around: its upper bits are the mixed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demand.features.compiled import compiled
from demand.features.text import Hashes, code_points, letters_table

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SPACE = np.uint64(32)
_NOTHING = np.uint64(0)


@dataclass(frozen=True)
class Occurrences:
    """Things that occur in texts, such as words: the row and the hash of each.

    Parameters
    ----------
    row, hashed
        Both of shape (m,); rows are sorted.
    """

    row: NDArray[np.int64]
    hashed: Hashes

    def distinct(self) -> Occurrences:
        """Keep the first of those that occur in a text more than once."""
        return Occurrences(*_distinct(self.row, self.hashed))

    def before(self, row: int) -> Occurrences:
        """Keep those of the rows before one."""
        end = self.row.searchsorted(row)
        return Occurrences(self.row[:end], self.hashed[:end])


@dataclass(frozen=True)
class Words:
    """Where the words of n texts stand.

    Parameters
    ----------
    code
        All characters of all texts, shape (m,).
    row, start, length
        Text, first character and letters of each of w words, shape (w,); rows are sorted.
    stems
        Hash of the beginning of each word.
    letters
        Letters and digits of each text, shape (n,).
    """

    code: NDArray[np.uint32]
    row: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    stems: Occurrences
    letters: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str | None], stem: int) -> Words:
        """Find the words of texts, of which the first ``stem`` letters count; None is empty."""
        code, first = code_points(texts)
        row, start, length, hashed, letters = _find_words(code, first, letters_table(), stem)
        return cls(code, row, start, length, Occurrences(row, hashed), letters)

    def grams(self, shortest: int, longest: int, first: int, last: int) -> Occurrences:
        """Return the n-grams of letters of the texts from ``first`` to before ``last``.

        As scikit-learn's ``char_wb``: a space before and after a word is part of it, and
        no n-gram reaches into the next word. ``shortest`` is at least 2.
        """
        begin, end = self.row.searchsorted([first, last])
        words = self.row[begin:end], self.start[begin:end], self.length[begin:end]
        return Occurrences(*_find_grams(self.code, *words, shortest, longest))


@compiled
def _find_words(
    code: NDArray[np.uint32],
    first: NDArray[np.int64],
    is_letter: NDArray[np.bool_],
    stem: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Hashes, NDArray[np.int64]]:
    texts, last = len(first) - 1, len(is_letter) - 1
    most = (len(code) + texts) // 2 + 1  # between two words stands what separates them
    row, start = np.empty(most, np.int64), np.empty(most, np.int64)
    length, hashed = np.empty(most, np.int64), np.empty(most, np.uint64)
    letters = np.zeros(texts, np.int64)
    found = 0
    for text in range(texts):
        place, end = first[text], first[text + 1]
        while place < end:
            if not is_letter[min(code[place], last)]:
                place += 1
                continue
            begin, joined = place, _NOTHING
            while place < end and is_letter[min(code[place], last)]:
                if place - begin < stem:
                    joined = (joined + np.uint64(code[place])) * _GOLDEN
                place += 1
            row[found], start[found] = text, begin
            length[found], hashed[found] = place - begin, joined
            letters[text] += place - begin
            found += 1
    return row[:found], start[:found], length[:found], hashed[:found], letters


@compiled
def _find_grams(
    code: NDArray[np.uint32],
    row: NDArray[np.int64],
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    shortest: int,
    longest: int,
) -> tuple[NDArray[np.int64], Hashes]:
    most = 0
    for word in range(len(row)):
        most += (length[word] + 2) * (longest - shortest + 1)
    rows, hashed = np.empty(most, np.int64), np.empty(most, np.uint64)
    found = 0
    for word in range(len(row)):
        behind = length[word]
        for begin in range(-1, behind):
            joined = _NOTHING
            for place in range(begin, min(begin + longest, behind + 1)):
                if place < 0 or place == behind:
                    letter = _SPACE
                else:
                    letter = np.uint64(code[start[word] + place])
                joined = (joined + letter) * _GOLDEN
                if place - begin + 1 >= shortest:
                    rows[found], hashed[found] = row[word], joined
                    found += 1
    return rows[:found], hashed[:found]


@compiled
def _distinct(row: NDArray[np.int64], hashed: Hashes) -> tuple[NDArray[np.int64], Hashes]:
    n = len(row)
    longest = run = 0
    for place in range(n):
        run = run + 1 if place > 0 and row[place] == row[place - 1] else 1
        longest = max(longest, run)
    bits = 1
    while (1 << bits) < 2 * longest:
        bits += 1
    # An open hash table a text; the stamp tells whose a slot is, so none is ever emptied.
    slots, stamps = np.empty(1 << bits, np.uint64), np.full(1 << bits, -1, np.int64)
    rows, kept = np.empty(n, np.int64), np.empty(n, np.uint64)
    found = 0
    for place in range(n):
        slot = np.int64(hashed[place] >> np.uint64(64 - bits))
        while stamps[slot] == row[place] and slots[slot] != hashed[place]:
            slot = (slot + 1) & ((1 << bits) - 1)
        if stamps[slot] != row[place]:
            stamps[slot], slots[slot] = row[place], hashed[place]
            rows[found], kept[found] = row[place], hashed[place]
            found += 1
    return rows[:found], kept[:found]
