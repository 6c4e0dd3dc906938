"""Stems of words, and n-grams of letters within words, compiled.

A stem is a word's first letters, which joins most Russian inflections. Punctuation, emoji
and white space only separate words, so they cannot change a prediction. A hash of letters
is a polynomial in an odd number that wraps around: its upper bits are the mixed ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from demand.features.compiled import compiled
from demand.features.text import BEYOND, Hashes

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SPACE = np.uint64(32)
_NOTHING = np.uint64(0)


class Occurrences(NamedTuple):
    """Things that occur in texts, such as words: the row and the hash of each.

    Parameters
    ----------
    row, hashed
        Both of shape (m,); rows are sorted.
    """

    row: NDArray[np.int64]
    hashed: Hashes


class Words(NamedTuple):
    """Where the words of n texts stand.

    Parameters
    ----------
    start, length
        First character and letters of each of w words, shape (w,).
    stems
        Text and hash of the beginning of each word.
    letters
        Letters and digits of each text, shape (n,).
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    stems: Occurrences
    letters: NDArray[np.int64]


@compiled
def find_words(
    code: NDArray[np.uint32], first: NDArray[np.int64], is_letter: NDArray[np.bool_], stem: int
) -> Words:
    """Find the words of n texts, of which the first ``stem`` letters count.

    Parameters
    ----------
    code, first
        See :func:`demand.features.text.code_points`.
    is_letter
        See :func:`demand.features.text.letters_table`.
    """
    texts = len(first) - 1
    most = (len(code) + texts) // 2 + 1  # between two words stands what separates them
    row, start = np.empty(most, np.int64), np.empty(most, np.int64)
    length, hashed = np.empty(most, np.int64), np.empty(most, np.uint64)
    letters = np.zeros(texts, np.int64)
    found = 0
    for text in range(texts):
        place, end = first[text], first[text + 1]
        while place < end:
            if not is_letter[min(code[place], BEYOND)]:
                place += 1
                continue
            begin, joined = place, _NOTHING
            while place < end and is_letter[min(code[place], BEYOND)]:
                if place - begin < stem:
                    joined = (joined + np.uint64(code[place])) * _GOLDEN
                place += 1
            row[found], start[found] = text, begin
            length[found], hashed[found] = place - begin, joined
            letters[text] += place - begin
            found += 1
    stems = Occurrences(row[:found], hashed[:found])
    return Words(start[:found], length[:found], stems, letters)


@compiled
def find_grams(
    code: NDArray[np.uint32], words: Words, shortest: int, longest: int, first: int, last: int
) -> Occurrences:
    """Return the n-grams of letters of the texts from ``first`` to before ``last``.

    As scikit-learn's ``char_wb``: a space before and after a word is part of it, and
    no n-gram reaches into the next word. ``shortest`` is at least 2. Rows are counted
    from ``first`` on.
    """
    row, start, length = words.stems.row, words.start, words.length
    begin_word, end_word = np.searchsorted(row, first), np.searchsorted(row, last)
    most = 0
    for word in range(begin_word, end_word):
        most += (length[word] + 2) * (longest - shortest + 1)
    rows, hashed = np.empty(most, np.int64), np.empty(most, np.uint64)
    found = 0
    for word in range(begin_word, end_word):
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
                    rows[found], hashed[found] = row[word] - first, joined
                    found += 1
    return Occurrences(rows[:found], hashed[:found])


@compiled
def distinct(found: Occurrences) -> Occurrences:
    """Keep the first of those that occur in a text more than once."""
    row, hashed = found.row, found.hashed
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
    end = 0
    for place in range(n):
        slot = np.int64(hashed[place] >> np.uint64(64 - bits))
        while stamps[slot] == row[place] and slots[slot] != hashed[place]:
            slot = (slot + 1) & ((1 << bits) - 1)
        if stamps[slot] != row[place]:
            stamps[slot], slots[slot] = row[place], hashed[place]
            rows[end], kept[end] = row[place], hashed[place]
            end += 1
    return Occurrences(rows[:end], kept[:end])
