"""Means by group, shrunk towards the mean of the group above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import Floats
from demand.features.compiled import compilable, compiled

Keys = NDArray[np.uint64]
_NONE_ABOVE = np.array([-1])


@dataclass(frozen=True)
class GroupMeans:
    """A table from group to shrunk mean.

    Parameters
    ----------
    keys
        Hashes of the groups that were seen often enough, sorted, shape (g,), uint32.
    means
        Their shrunk means, shape (g,), float32.
    """

    keys: NDArray[np.uint32]
    means: NDArray[np.float32]

    @classmethod
    def fit(
        cls, keys: Keys, values: Floats, above: Floats, *, shrinkage: float, count_min: int = 2
    ) -> GroupMeans:
        """Estimate the mean of each group.

        The estimate is (sum of values + shrinkage · mean above) / (count + shrinkage),
        the posterior mean under a normal prior centred on the group above
        (Micci-Barreca, SIGKDD Explorations 2001).

        Parameters
        ----------
        keys
            Group of each row, shape (n,); well mixed hashes.
        values
            What to average, shape (n,), without NaN.
        above
            The estimate one level up for each row, shape (n,).
        shrinkage
            Weight of the level above, in rows.
        count_min
            Groups with fewer rows are left to the level above.
        """
        short = _shorten(keys)
        unique, inverse, counts = np.unique(short, return_inverse=True, return_counts=True)
        sums = np.bincount(inverse, values, len(unique))
        prior = np.bincount(inverse, above, len(unique)) / np.maximum(counts, 1)
        means = (sums + shrinkage * prior) / (counts + shrinkage)
        kept = counts >= count_min
        return cls(unique[kept], means[kept].astype(np.float32))

    @classmethod
    def together(cls, tables: Sequence[GroupMeans]) -> GroupMeans:
        """Return one table of all groups, whose hashes must differ between the tables."""
        keys = np.concatenate([table.keys for table in tables])
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], np.concatenate([table.means for table in tables])[order])

    def lookup(self, keys: Keys, above: Floats) -> Floats:
        """Return the mean of each row's group, or ``above`` where it is unknown; shape (n,)."""
        found = resolve(self.keys, self.means, keys[None], _NONE_ABOVE, np.nan)[0]
        return np.where(np.isnan(found), above, found)

    def store(self, arrays: dict[str, NDArray[Any]], name: str) -> None:
        """Put the table into ``arrays`` under two names that begin with ``name``."""
        arrays[f"{name}.keys"], arrays[f"{name}.means"] = self.keys, self.means


def _shorten(keys: Keys) -> NDArray[np.uint32]:
    """Keep the upper 32 bits of mixed hashes: half the size, collisions at 1 in 4 billion."""
    return (keys >> np.uint64(32)).astype(np.uint32)


@compilable
def place_of(known: NDArray[np.uint32], key: np.uint64) -> int:
    """Return where a key stands among sorted ones, or -1 where it is not among them."""
    low, high = 0, len(known)
    while low < high:
        middle = (low + high) // 2
        if known[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < len(known) and known[low] == key else -1


@compiled
def resolve(
    known: NDArray[np.uint32],
    means: NDArray[np.float32],
    keys: Keys,
    above: NDArray[np.int64],
    overall: float,
) -> Floats:
    """Return the mean of each group, or what stands in for it where it is unknown.

    Parameters
    ----------
    known, means
        Those of a :class:`GroupMeans`.
    keys
        Groups of n rows, shape (s, n).
    above
        For each of s kinds of groups the number of the kind before it that stands in,
        or -1 for ``overall``; shape (s,).

    Returns
    -------
    numpy.ndarray
        Shape (s, n).
    """
    found = np.empty(keys.shape, np.float64)
    for kind in range(keys.shape[0]):
        for row in range(keys.shape[1]):
            place = place_of(known, keys[kind, row] >> np.uint64(32))
            if place >= 0:
                found[kind, row] = means[place]
            elif above[kind] < 0:
                found[kind, row] = overall
            else:
                found[kind, row] = found[above[kind], row]
    return found
