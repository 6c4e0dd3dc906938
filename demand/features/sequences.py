"""Words in their order, for encoders that read them one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from demand.features.compiled import compiled
from demand.features.words import Occurrences

PADDING = 0


@compiled
def word_sequences(words: Occurrences, rows: int, longest: int, buckets: int) -> NDArray[np.int64]:
    """Return the words of title and description as buckets, padded at the end.

    Parameters
    ----------
    words
        All words of titles, of descriptions, and of what else there is, ``rows`` texts each.
    longest
        How many words are read of an ad; none where the text encoder reads n-grams.

    Returns
    -------
    numpy.ndarray
        Shape (rows, longest), in [0, buckets); ``PADDING`` behind the last word.
    """
    sequence = np.full((rows, longest), PADDING, np.int64)
    filled = np.zeros(rows, np.int64)
    for word in range(np.searchsorted(words.row, 2 * rows) if longest else 0):
        ad = words.row[word] % rows
        if filled[ad] < longest:
            bucket = words.hashed[word] % np.uint64(buckets - 1) + np.uint64(1)
            sequence[ad, filled[ad]] = np.int64(bucket)
            filled[ad] += 1
    return sequence
