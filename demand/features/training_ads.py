"""Labelled ads to learn from, however many: in blocks, from memory or from a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from demand.features.encoding import AdColumns, hash_values
from demand.schema.arrays import Floats, Hashes, Rows
from demand.schema.columns import INPUT_COLUMNS, TARGET

if TYPE_CHECKING:
    from demand.data.typed import TypedAds

_SELLER = "user_id"
_INPUTS = [column.name for column in INPUT_COLUMNS]


class TrainingAds:
    """Typed ads with their target: a frame, or rows of a file, of which a block is in memory.

    ``rows`` are as :class:`demand.data.typed.TypedAds` takes them, and of a file only.
    """

    def __init__(self, ads: pd.DataFrame | TypedAds, rows: Rows | None = None) -> None:
        known = ads if isinstance(ads, pd.DataFrame) else ads.frame(rows, [TARGET, _SELLER])
        self._ads = ads
        self._rows = np.arange(len(known)) if rows is None else rows
        self.target: Floats = known[TARGET].to_numpy(dtype=np.float64)  # shape (n,)
        self.sellers: Hashes = hash_values(AdColumns.from_frame(known[[_SELLER]]).text[_SELLER])

    @property
    def rows(self) -> int:
        """Number of ads, n."""
        return len(self.target)

    def stored(self) -> tuple[Path, Rows]:
        """Return the file that they are rows of, and which; a ValueError for a frame."""
        if isinstance(self._ads, pd.DataFrame):
            raise ValueError("these ads are in memory, and in no file")
        return self._ads.path, self._rows

    def blocks(self, columns: Sequence[str] | None = None) -> Iterator[AdColumns]:
        """Yield all ads in their order; columns that are not asked for may be missing."""
        ads, names = self._ads, _INPUTS if columns is None else columns
        frames = [ads] if isinstance(ads, pd.DataFrame) else ads.blocks(self._rows, names)
        for frame in frames:
            yield from AdColumns.from_frame(frame).blocks()

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[tuple[Rows, AdColumns]]:
        """Yield all ads once, well mixed, at most ``size`` at a time, with their positions.

        Positions, shape (size,), are those in ``target`` and ``sellers``.
        """
        frames: Iterable[pd.DataFrame]
        if isinstance(self._ads, pd.DataFrame):
            frames = [self._ads.set_axis(self._rows).iloc[rng.permutation(self.rows)]]
        else:
            frames = self._ads.shuffled(self._rows, rng, _INPUTS)
        for frame in frames:
            position, ads = np.searchsorted(self._rows, frame.index), AdColumns.from_frame(frame)
            for first in range(0, ads.rows, size):
                chosen = slice(first, first + size)
                yield position[chosen], ads.part(chosen)
