"""Reading a file of ads into one typed frame, with every flaw named."""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand.data.archives import open_ads
from demand.data.tables import Bounds, Chunk, Table, open_table
from demand.data.versioning import file_md5
from demand.errors import AdsFileError
from demand.progress import report
from demand.schema.cells import missing_values, parser_of, typed_array
from demand.schema.columns import COLUMN, COLUMN_NAMES, REQUEST_REQUIRED, TARGET, Column

# Different values of a column that are remembered, so that a category, a price or a date
# is parsed once and kept once; all are forgotten when there are more (of descriptions).
_REMEMBERED_MAX = 50_000
_VALUE_LENGTH_MAX = 80

# Row, line, column, value and reason.
_Flaw = tuple[int, int, str, str, str]


@dataclass(frozen=True)
class LoadedAds:
    """A file of ads as it was read.

    ``frame`` has one row an ad, in the file's order, columns in the order of ``COLUMN_NAMES``, a
    RangeIndex. Text: str or None. Numbers and integers: float64, NaN where missing. Dates:
    datetime64[ns], NaT where missing. Without the target where no labels were asked for.

    ``unparsed`` has one row for each cell that could not be understood and is therefore missing
    in ``frame`` (text with a NUL byte is there, without it): ``row`` (position in ``frame``),
    ``line`` (where the row begins in the file, from 1), ``item_id``, ``column``, ``value`` (at
    most 80 characters), ``reason``.
    """

    frame: pd.DataFrame
    unparsed: pd.DataFrame
    # The line in which each ad begins, from 1, shape (rows,); None for Parquet, which has none.
    lines: npt.NDArray[np.int64] | None
    ignored_columns: tuple[str, ...]  # which an ad does not have
    md5: str  # of the file's bytes
    # Lines, or of Parquet rows from 1, that say the header again; they are left out.
    repeated_headers: tuple[int, ...] = ()


def read_ads(path: Path, *, labelled: bool = True, max_file_gb: float = 8.0) -> LoadedAds:
    """Read a CSV or Parquet file of ads, plain or inside a zip or gz, recognised by its content.

    Of labelled ads all 18 columns must be there. Without labels, only ``title`` and
    ``category_name`` must; the others are missing throughout where they are absent, and a
    target is dropped. Packed or unpacked, the file may hold ``max_file_gb`` times 10^9 bytes.

    Raises
    ------
    AdsFileError
        The file as a whole cannot be read; see :func:`demand.data.archives.open_ads` and
        :func:`demand.data.tables.open_table`. Or columns are missing, or there are no ads.
    """
    max_bytes = int(max_file_gb * 1e9)
    names = [name for name in COLUMN_NAMES if labelled or name != TARGET]
    flaws: list[_Flaw] = []
    lines = array("q")
    headers: tuple[int, ...] = ()
    rows = 0
    with open_ads(path, max_bytes) as opened:
        table = open_table(opened, Bounds(max_bytes))
        _check_columns(table, opened.name, labelled=labelled)
        parsers = {name: ColumnParser(COLUMN[name]) for name in names if name in table.header}
        for chunk in table.read(parsers.keys()):
            flaws += _add_chunk(parsers, chunk, rows)
            rows += chunk.rows
            headers += chunk.headers
            lines.extend(chunk.lines or ())
            report(opened.position(), path.stat().st_size)
        if not rows:
            raise AdsFileError(f"{opened.name} has a header but no ads: is it cut short?")
        md5 = file_md5(path)
    typed = {
        name: parsers[name].array() if name in parsers else missing_values(COLUMN[name].kind, rows)
        for name in names
    }
    frame = pd.DataFrame(typed, copy=False)
    unparsed = pd.DataFrame(flaws, columns=["row", "line", "column", "value", "reason"])
    unparsed.insert(2, "item_id", frame["item_id"].to_numpy()[unparsed["row"].to_numpy(dtype=int)])
    kinds = {name: "int64" if name in ("row", "line") else "object" for name in unparsed}
    return LoadedAds(
        frame,
        unparsed.astype(kinds),
        np.array(lines, dtype=np.int64) if lines else None,
        tuple(name for name in table.header if name not in COLUMN),
        md5,
        headers,
    )


def ads_md5(path: Path, max_file_gb: float = 8.0) -> str:
    """Return the MD5 of a file that can be opened as ads, hexadecimal.

    Raises
    ------
    AdsFileError
        The file cannot be opened as ads; see :func:`demand.data.archives.open_ads`.
    """
    with open_ads(path, int(max_file_gb * 1e9)):
        return file_md5(path)


def _check_columns(table: Table, name: str, *, labelled: bool) -> None:
    """Demand the columns, and name for each that lacks the one that may be meant."""
    needed = COLUMN_NAMES if labelled else REQUEST_REQUIRED
    strangers = [column for column in table.header if column not in COLUMN]
    lacking = [column for column in needed if column not in table.header]
    for place, column in enumerate(lacking):
        for near in difflib.get_close_matches(column, strangers, n=1):
            lacking[place] = f"{column} (is it {near!r}?)"
    if lacking:
        found = ", ".join(table.header[:20]) or "nothing"
        raise AdsFileError(
            f"{name} lacks {len(lacking)} of the {len(needed)} columns needed: "
            f"{', '.join(lacking)}; the header has: {found[:300]}"
        )


class ColumnParser:
    """Types the cells of one column of the schema, chunk after chunk."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._parse = parser_of(column)
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
        return np.concatenate(self._parts or [missing_values(self._column.kind, 0)])


def _add_chunk(parsers: dict[str, ColumnParser], chunk: Chunk, first_row: int) -> list[_Flaw]:
    """Type one chunk; return row, line, column, value and reason of each flaw."""
    flaws = []
    for name, parser in parsers.items():
        cells = chunk.columns[name]
        for position, reason in parser.add(cells):
            row = first_row + position
            line = row + 2 if chunk.lines is None else chunk.lines[position]
            flaws.append((row, line, name, cells[position][:_VALUE_LENGTH_MAX], reason))
    return sorted(flaws, key=lambda flaw: flaw[0])
