"""Means by group, shrunk towards the mean of the group above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand.features.columns import Floats

Keys = NDArray[np.uint64]


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

    def find(self, keys: Keys) -> Floats:
        """Return the mean of each group, NaN where it is unknown; any shape to the same."""
        short = _shorten(keys)
        if not len(self.keys):
            return np.full(short.shape, np.nan)
        place = np.minimum(np.searchsorted(self.keys, short), len(self.keys) - 1)
        return np.where(self.keys[place] == short, self.means[place], np.nan)

    def lookup(self, keys: Keys, above: Floats) -> Floats:
        """Return the mean of each row's group, or ``above`` where it is unknown; shape (n,)."""
        found = self.find(keys)
        return np.where(np.isnan(found), above, found)

    def store(self, arrays: dict[str, NDArray[Any]], name: str) -> None:
        """Put the table into ``arrays`` under two names that begin with ``name``."""
        arrays[f"{name}.keys"], arrays[f"{name}.means"] = self.keys, self.means

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> GroupMeans:
        """Take from ``arrays`` what :meth:`store` put there."""
        return cls(arrays[f"{name}.keys"], arrays[f"{name}.means"])


def _shorten(keys: Keys) -> NDArray[np.uint32]:
    """Keep the upper 32 bits of mixed hashes: half the size, collisions at 1 in 4 billion."""
    return (keys >> np.uint64(32)).astype(np.uint32)
