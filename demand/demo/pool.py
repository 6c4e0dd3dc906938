"""Phrases in groups, from which many ads draw at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from demand.demo.hashing import Floats, Indices, Keys, below, skewed, text_keys

Texts = npt.NDArray[np.object_]


def as_texts(values: Sequence[str | None]) -> Texts:
    """Return texts as an array of objects, shape (len(values),)."""
    texts = np.empty(len(values), dtype=object)
    texts[:] = values
    return texts


@dataclass(frozen=True)
class Pool:
    """Phrases in groups (a leaf's or a category's), one group after the other.

    Parameters
    ----------
    texts, keys
        All phrases and their hashes, shape (phrases,).
    start, count
        Where each group begins and how many phrases it has, shape (groups,).
    """

    texts: Texts
    keys: Keys
    start: Indices
    count: Indices

    @classmethod
    def of(cls, groups: Sequence[Sequence[str]]) -> Pool:
        """Lay out groups of phrases."""
        flat = [phrase for group in groups for phrase in group]
        count = np.array([len(group) for group in groups], dtype=np.int64)
        return cls(as_texts(flat), text_keys(flat), np.cumsum(count) - count, count)

    def choose(self, groups: Indices, uniforms: Floats) -> Indices:
        """Return the position of a phrase of each group, -1 where the group is empty.

        Earlier phrases of a group are likelier, see :func:`demand.demo.hashing.skewed`.
        """
        counts = self.count[groups]
        chosen = self.start[groups] + below(skewed(uniforms), counts)
        return np.where(counts > 0, chosen, -1)

    def flags(self, part: str) -> npt.NDArray[np.bool_]:
        """Say which phrases contain ``part``, shape (phrases,)."""
        return np.array([part in phrase for phrase in self.texts], dtype=np.bool_)
