"""Where a deal probability stands among the ads of its category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from demand.ads import CATEGORY_ROWS_MIN
from demand.features.columns import Floats
from demand.features.compiled import compiled
from demand.features.group_means import place_of
from demand.features.text import Hashes, hash_values, short_key

_LEVELS = np.linspace(0.0, 1.0, 51)
_SALT = np.uint64(2)

Categories = Hashes | Sequence[str | None]


@dataclass(frozen=True)
class Ranks:
    """Quantiles of a model's answers by category.

    Parameters
    ----------
    keys
        Hashes of the categories with enough ads, sorted, shape (g,), uint32.
    quantiles
        Answers at evenly spaced ranks of each, and of all ads in the last row; shape
        (g + 1, 51), float16.
    """

    keys: NDArray[np.uint32]
    quantiles: NDArray[np.float16]

    def __post_init__(self) -> None:
        """Demand that the shapes are those above: compiled code looks at none."""
        expected = (len(self.keys) + 1, len(_LEVELS))
        if self.keys.ndim != 1 or self.quantiles.shape != expected:
            raise ValueError(f"{self.keys.shape} keys, but quantiles {self.quantiles.shape}")

    @classmethod
    def fit(cls, predicted: ArrayLike, categories: Sequence[str | None]) -> Self:
        """Learn the quantiles of answers, shape (n,), n >= 1, for ads of known categories."""
        answers = np.asarray(predicted, dtype=np.float64)
        keys = short_key(_hashes(categories), _SALT).astype(np.uint32)
        unique, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
        kept = np.flatnonzero(counts >= CATEGORY_ROWS_MIN)
        rows = [np.quantile(answers[group == number], _LEVELS) for number in kept]
        rows.append(np.quantile(answers, _LEVELS))
        return cls(unique[kept], np.array(rows, dtype=np.float16))

    def percentiles(self, predicted: ArrayLike, categories: Categories) -> Floats:
        """Return the share of its category's ads that get a smaller answer, in [0, 1].

        Parameters
        ----------
        predicted
            Answers, shape (n,).
        categories
            Category of each, or their hashes by :func:`demand.features.text.hash_values`;
            unknown and small ones are ranked among all ads.

        Returns
        -------
        numpy.ndarray
            Shape (n,); a rank that several levels share, as among equal answers, is
            their middle.

        Raises
        ------
        ValueError
            There is not one category an answer.
        """
        answers, hashes = np.asarray(predicted, dtype=np.float64), _hashes(categories)
        if answers.ndim != 1 or hashes.shape != answers.shape:
            raise ValueError(f"categories of shape {hashes.shape} for answers {answers.shape}")
        return _shares(self.keys, self._levels, hashes, answers)

    @cached_property
    def _levels(self) -> Floats:
        """The quantiles in a type that machine code can compare."""
        return self.quantiles.astype(np.float64)

    def store(self, arrays: dict[str, NDArray[Any]], name: str) -> None:
        """Put the table into ``arrays`` under two names that begin with ``name``."""
        arrays[f"{name}.keys"], arrays[f"{name}.quantiles"] = self.keys, self.quantiles

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> Self:
        """Take from ``arrays`` what :meth:`store` put there."""
        keys = np.array(arrays[f"{name}.keys"], np.uint32)
        return cls(keys, np.array(arrays[f"{name}.quantiles"], np.float16))


def _hashes(categories: Categories) -> Hashes:
    """Return the hash of each category, shape (n,)."""
    return categories if isinstance(categories, np.ndarray) else hash_values(list(categories))


@compiled
def _shares(
    known: NDArray[np.uint32], levels: Floats, categories: Hashes, answers: Floats
) -> Floats:
    shares = np.empty(len(answers), np.float64)
    for row in range(len(answers)):
        place = place_of(known, short_key(categories[row], _SALT))
        if place < 0:
            place = len(known)
        below = np.searchsorted(levels[place], answers[row])
        upto = np.searchsorted(levels[place], answers[row], side="right")
        shares[row] = (below + upto) / (2.0 * levels.shape[1])
    return shares
