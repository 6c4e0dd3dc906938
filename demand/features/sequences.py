"""Words in their order, for encoders that read them one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.features.texts import Texts

PADDING = 0


def word_sequences(texts: Texts, rows: int, settings: FeatureSettings) -> NDArray[np.int64]:
    """Return the words of title and description as buckets, padded at the end.

    Returns
    -------
    numpy.ndarray
        Shape (rows, ``settings.sequence_words_max``), in [0, ``settings.sequence_buckets``);
        ``PADDING`` behind the last word. No columns where words are read as n-grams.
    """
    if settings.text_encoder == "ngrams":
        return np.empty((rows, 0), dtype=np.int64)
    longest = settings.sequence_words_max
    sequence = np.full((rows, longest), PADDING, dtype=np.int64)
    row, hashed = texts.in_order.row, texts.in_order.hashed
    place = np.arange(len(row)) - np.searchsorted(row, row, side="left")
    in_title = np.bincount(row[row < rows], minlength=rows)
    place += np.where(row < rows, 0, in_title[row % rows])
    kept = place < longest
    bucket = hashed % np.uint64(settings.sequence_buckets - 1) + np.uint64(1)
    sequence[row[kept] % rows, place[kept]] = bucket[kept].astype(np.int64)
    return sequence
