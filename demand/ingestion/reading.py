"""Reading a file of ads into one typed frame, with every flaw named."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand.ads import COLUMN, COLUMN_NAMES, REQUEST_REQUIRED, TARGET, Column
from demand.errors import AdsFileError
from demand.ingestion.archives import open_ads
from demand.ingestion.cells import PARSERS, missing_values, typed_array
from demand.ingestion.tables import Chunk, Table, open_table
from demand.versioning import file_md5

# Different values of a column that are remembered, so that a category, a price or a date
# is parsed once and kept once; all are forgotten when there are more (of descriptions).
_REMEMBERED_MAX = 50_000
_VALUE_LENGTH_MAX = 80

_UNPARSED_DTYPES = {
    "row": "int64",
    "line": "int64",
    "item_id": "object",
    "column": "object",
    "value": "object",
    "reason": "object",
}


@dataclass(frozen=True)
class LoadedAds:
    """A file of ads as it was read.

    Parameters
    ----------
    frame
        One row an ad, in the file's order, columns in the order of ``COLUMN_NAMES``,
        a RangeIndex. Text: str or None. Numbers and integers: float64, NaN where
        missing. Dates: datetime64[ns], NaT where missing. Without the target where no
        labels were asked for.
    unparsed
        One row for each cell that could not be understood and is therefore missing in
        ``frame`` (text with a NUL byte is there, without it): ``row`` (position in
        ``frame``), ``line`` (where the row begins in the file, from 1), ``item_id``,
        ``column``, ``value`` (at most 80 characters), ``reason``.
    lines
        The line of the file in which each ad begins, from 1, shape (rows,); None for
        Parquet, which has no lines.
    ignored_columns
        Columns of the file that an ad does not have.
    path, md5
        The file: as named, and the MD5 of its bytes.
    """

    frame: pd.DataFrame
    unparsed: pd.DataFrame
    lines: npt.NDArray[np.int64] | None
    ignored_columns: tuple[str, ...]
    path: Path
    md5: str


def read_ads(path: Path, *, labelled: bool = True, max_file_gb: float = 8.0) -> LoadedAds:
    """Read a CSV or Parquet file of ads, plain or inside a zip or gz.

    Parameters
    ----------
    path
        The file. Its format is recognised by its content.
    labelled
        All 18 columns must be there. Without labels, only ``title`` and
        ``category_name`` must; the others are missing throughout where they are
        absent, and a target is dropped.
    max_file_gb
        Most that the file may hold, packed or unpacked, in units of 10^9 bytes.

    Raises
    ------
    AdsFileError
        The file as a whole cannot be read; see :func:`demand.ingestion.archives.open_ads` and
        :func:`demand.ingestion.tables.open_table`. Or columns are missing, or there are no ads.
    """
    max_bytes = int(max_file_gb * 1e9)
    with open_ads(path, max_bytes) as opened:
        table = open_table(opened, max_bytes)
        _check_columns(table, opened.name, labelled=labelled)
        frame, unparsed, lines = _typed(table, labelled=labelled)
        if frame.empty:
            raise AdsFileError(f"{opened.name} has a header but no ads: is it cut short?")
        md5 = file_md5(path)
    ignored = tuple(name for name in table.header if name not in COLUMN)
    return LoadedAds(frame, unparsed, lines, ignored, path, md5)


def ads_md5(path: Path, max_file_gb: float = 8.0) -> str:
    """Return the MD5 of a file that can be opened as ads, hexadecimal.

    Raises
    ------
    AdsFileError
        The file cannot be opened as ads; see :func:`demand.ingestion.archives.open_ads`.
    """
    with open_ads(path, int(max_file_gb * 1e9)):
        return file_md5(path)


def _check_columns(table: Table, name: str, *, labelled: bool) -> None:
    """Demand the columns, and name for each that lacks the one that may be meant."""
    needed = COLUMN_NAMES if labelled else REQUEST_REQUIRED
    strangers = [column for column in table.header if column not in COLUMN]
    lacking = []
    for column in needed:
        if column not in table.header:
            near = difflib.get_close_matches(column, strangers, n=1)
            lacking.append(f"{column} (is it {near[0]!r}?)" if near else column)
    if lacking:
        found = ", ".join(table.header[:20]) or "nothing"
        raise AdsFileError(
            f"{name} lacks {len(lacking)} of the {len(needed)} columns needed: "
            f"{', '.join(lacking)}; the header has: {found[:300]}"
        )


class _ColumnParser:
    """Types the cells of one column, chunk after chunk."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._parse = PARSERS[column.kind]
        self._known: dict[str, Any] = {}
        self._flawed: dict[str, str] = {}
        self._parts: list[npt.NDArray[Any]] = []

    def add(self, cells: Sequence[str]) -> list[tuple[int, str]]:
        """Type some cells; return position and reason of those not understood."""
        if len(self._known) > _REMEMBERED_MAX:
            self._known.clear()
            self._flawed.clear()
        distinct = set(cells)
        for cell in distinct.difference(self._known):
            self._known[cell], reason = self._parse(cell)
            if reason is not None:
                self._flawed[cell] = reason
        values = list(map(self._known.__getitem__, cells))
        self._parts.append(typed_array(self._column.kind, values))
        if self._flawed.keys().isdisjoint(distinct):
            return []
        return [(i, self._flawed[cell]) for i, cell in enumerate(cells) if cell in self._flawed]

    def array(self) -> npt.NDArray[Any]:
        """Return all values so far, shape (rows,)."""
        if not self._parts:
            return missing_values(self._column.kind, 0)
        return np.concatenate(self._parts)


def _typed(
    table: Table, *, labelled: bool
) -> tuple[pd.DataFrame, pd.DataFrame, npt.NDArray[np.int64] | None]:
    """Read all rows; return the typed frame, the cells not understood, and the lines."""
    names = [name for name in COLUMN_NAMES if labelled or name != TARGET]
    parsers = {name: _ColumnParser(COLUMN[name]) for name in names if name in table.header}
    flaws: list[tuple[int, int, str, str, str]] = []
    lines: list[npt.NDArray[np.int64]] = []
    rows = 0
    for chunk in table.read(parsers.keys()):
        flaws += _add_chunk(parsers, chunk, rows)
        rows += chunk.rows
        if chunk.lines is not None:
            lines.append(np.array(chunk.lines, dtype=np.int64))
    arrays = {
        name: parsers[name].array() if name in parsers else missing_values(COLUMN[name].kind, rows)
        for name in names
    }
    frame = pd.DataFrame(arrays, copy=False)
    return frame, _unparsed_frame(flaws, frame), np.concatenate(lines) if lines else None


def _add_chunk(
    parsers: dict[str, _ColumnParser], chunk: Chunk, first_row: int
) -> list[tuple[int, int, str, str, str]]:
    """Type one chunk; return row, line, column, value and reason of each flaw."""
    flaws = []
    for name, parser in parsers.items():
        cells = chunk.columns[name]
        for position, reason in parser.add(cells):
            row = first_row + position
            line = row + 2 if chunk.lines is None else chunk.lines[position]
            flaws.append((row, line, name, cells[position][:_VALUE_LENGTH_MAX], reason))
    return sorted(flaws, key=lambda flaw: flaw[0])


def _unparsed_frame(
    flaws: Collection[tuple[int, int, str, str, str]], frame: pd.DataFrame
) -> pd.DataFrame:
    unparsed = pd.DataFrame(flaws, columns=["row", "line", "column", "value", "reason"])
    item_ids = frame["item_id"].to_numpy()[unparsed["row"].to_numpy(dtype="int64")]
    unparsed.insert(2, "item_id", item_ids)
    return unparsed.astype(_UNPARSED_DTYPES)
