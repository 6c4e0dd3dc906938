"""Typed ads in a Parquet file: written block by block, read by blocks, parts and columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from demand.data.reading import AdsPart, LoadedAds, ads_md5, join_parts, stream_ads
from demand.schema.arrays import Rows
from demand.schema.columns import COLUMN, Kind
from demand.workspace.workspace import write_aside

# Rows of a group, which is read as a whole: some 10 MB of Python's strings.
GROUP_ROWS = 8_192
# Texts may come to more than the 2 GB that an array of pyarrow's plain strings can hold.
_TYPES: dict[Kind, pa.DataType] = {
    "text": pa.large_string(),
    "number": pa.float64(),
    "integer": pa.float64(),
    "date": pa.timestamp("ns"),
}


class TypedAds:
    """Typed ads in a Parquet file, which is open only while it is read.

    The frames that are read have the columns and types of
    :attr:`demand.data.reading.AdsPart.frame`. Wherever ``rows`` are asked for, they are numbers
    of rows in the file, ascending, shape (n,), and ``columns`` names in any order; None stands
    for all. Other rows are a ValueError, other columns a KeyError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._footer = pq.read_metadata(path)
        sizes = [self._footer.row_group(n).num_rows for n in range(self._footer.num_row_groups)]
        # The first row of each group; at the end, the number of all rows.
        self._first = np.cumsum([0, *sizes], dtype=np.int64)

    @classmethod
    def write(cls, path: Path, frames: Iterable[pd.DataFrame]) -> Self:
        """Write typed frames of the same columns, one below the other; whole or not at all.

        A StateError says why the file cannot be written; no frame is a ValueError.
        """
        frames = iter(frames)
        first = next(frames, None)
        if first is None:
            raise ValueError("there is no frame of ads to write")
        schema = _schema(first.columns)
        # Texts that hardly ever come again are not worth a dictionary.
        repeated = [n for n in schema.names if COLUMN[n].category or COLUMN[n].kind != "text"]
        tables = (_table(frame, schema) for frame in chain([first], frames))
        with (
            write_aside(path) as aside,
            pq.ParquetWriter(aside, schema, compression="zstd", use_dictionary=repeated) as writer,
        ):
            for group in _groups(tables):
                writer.write_table(group, row_group_size=GROUP_ROWS)
        return cls(path)

    @property
    def rows(self) -> int:
        """How many ads there are."""
        return int(self._first[-1])

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in their order."""
        return tuple(self._footer.schema.names)

    def blocks(
        self, rows: Rows | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pd.DataFrame]:
        """Yield the ads in their order, a group of rows at a time, each with a RangeIndex."""
        chosen = self._by_group(rows)
        for _, table in self._tables(chosen, range(len(chosen)), columns):
            yield table.to_pandas()

    def frame(self, rows: Rows | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return ads as one frame with a RangeIndex: a small part of them, or a few columns."""
        chosen = self._by_group(rows)
        tables = (table for _, table in self._tables(chosen, range(len(chosen)), columns))
        nothing = _schema(self.columns if columns is None else columns).empty_table()
        frame: pd.DataFrame = pa.concat_tables([nothing, *tables]).to_pandas()
        return frame

    def shuffled(
        self,
        rows: Rows | None,
        rng: np.random.Generator,
        columns: Sequence[str] | None = None,
        groups_at_once: int = 16,
    ) -> Iterator[pd.DataFrame]:
        """Yield each of the ads once, mixed, so that a sorted file makes no sorted batches.

        The groups of rows are taken in random order, and the ads of ``groups_at_once`` of them
        make one frame, in random order; its index is the numbers of the rows.
        """
        chosen = self._by_group(rows)
        order = rng.permutation(len(chosen))
        for start in range(0, len(order), groups_at_once):
            read = list(self._tables(chosen, order[start : start + groups_at_once], columns))
            numbers = np.concatenate([group for group, _ in read])
            frame: pd.DataFrame = pa.concat_tables([table for _, table in read]).to_pandas()
            yield frame.set_axis(numbers).iloc[rng.permutation(len(numbers))]

    def _by_group(self, rows: Rows | None) -> list[tuple[int, Rows]]:
        """Return number and chosen rows of each group that has some."""
        if rows is None:
            rows = np.arange(self.rows)
        if len(rows) and not (rows[0] >= 0 and rows[-1] < self.rows and (np.diff(rows) > 0).all()):
            raise ValueError(f"rows must ascend, from 0 to at most {self.rows - 1}, in {self.path}")
        parts = np.split(rows, np.searchsorted(rows, self._first[1:-1]))
        return [(number, part) for number, part in enumerate(parts) if len(part)]

    def _tables(
        self,
        chosen: Sequence[tuple[int, Rows]],
        order: Iterable[int],
        columns: Sequence[str] | None,
    ) -> Iterator[tuple[Rows, pa.Table]]:
        names = list(self.columns if columns is None else columns)
        with pq.ParquetFile(self.path, metadata=self._footer) as file:
            for number, rows in (chosen[place] for place in order):
                table = file.read_row_group(number, columns=names).select(names)
                whole = len(rows) == table.num_rows
                yield rows, table if whole else table.take(rows - self._first[number])


def store_ads(path: Path, stored: Path, *, max_file_gb: float = 8.0) -> tuple[TypedAds, LoadedAds]:
    """Read a file of labelled ads, some thousand at a time, into the Parquet file ``stored``.

    Returns the ads, and what else was read: as :func:`demand.data.reading.read_ads` does, but
    its frame has no rows. For the errors see :func:`demand.data.reading.stream_ads` and
    :meth:`TypedAds.write`.
    """
    parts: list[AdsPart] = []

    def frames() -> Iterator[pd.DataFrame]:
        for part in stream_ads(path, max_file_gb=max_file_gb):
            # A copy, since a view of no rows would hold them all.
            parts.append(replace(part, frame=part.frame.iloc[:0].copy()))
            yield part.frame

    ads = TypedAds.write(stored, frames())
    return ads, join_parts(parts, ads_md5(path, max_file_gb))


def _schema(columns: Iterable[str]) -> pa.Schema:
    return pa.schema([(name, _TYPES[COLUMN[name].kind]) for name in columns])


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """Take the values alone, without what pandas notes of its index; NaN is missing."""
    arrays = [pa.array(frame[f.name].to_numpy(), f.type, from_pandas=True) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join consecutive tables to whole groups of rows; only the last one is smaller."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if (rows := sum(each.num_rows for each in waiting)) >= GROUP_ROWS:
            joined, whole = pa.concat_tables(waiting), rows - rows % GROUP_ROWS
            yield joined.slice(0, whole)
            waiting = [joined.slice(whole)]
    if any(table.num_rows for table in waiting):
        yield pa.concat_tables(waiting)
