"""Reading a file of ads into typed frames, with every flaw named."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
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
# is parsed once and kept once; all are forgotten when there are more.
_REMEMBERED_MAX = 50_000
_VALUE_LENGTH_MAX = 80

# Row, line, column, value and reason.
_Flaw = tuple[int, int, str, str, str]


@dataclass(frozen=True)
class AdsPart:
    """Some consecutive ads of a file.

    ``frame`` has one row an ad, in the file's order, columns in the order of ``COLUMN_NAMES``, a
    RangeIndex from 0. Text: str or None. Numbers and integers: float64, NaN where missing. Dates:
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
    # Lines, or of Parquet rows from 1, that say the header again; they are left out.
    repeated_headers: tuple[int, ...] = ()
    first_row: int = 0  # how many ads of the file are before these


@dataclass(frozen=True, kw_only=True)
class LoadedAds(AdsPart):
    """A whole file of ads as it was read."""

    md5: str  # of the file's bytes


def read_ads(path: Path, *, labelled: bool = True, max_file_gb: float = 8.0) -> LoadedAds:
    """Read a file of ads as a whole; see :func:`stream_ads`, whose errors it raises."""
    parts = list(stream_ads(path, labelled=labelled, max_file_gb=max_file_gb))
    return join_parts(parts, ads_md5(path, max_file_gb))


def join_parts(parts: Sequence[AdsPart], md5: str) -> LoadedAds:
    """Return consecutive parts, at least one, of the file with this ``md5`` as one."""
    joined = {
        name: np.concatenate([part.frame[name].to_numpy() for part in parts])
        for name in parts[0].frame
    }
    flaws = (part.unparsed.assign(row=part.unparsed["row"] + part.first_row) for part in parts)
    lines = [part.lines for part in parts if part.lines is not None]
    return LoadedAds(
        pd.DataFrame(joined, copy=False),
        pd.concat(flaws, ignore_index=True),
        np.concatenate(lines) if lines else None,
        parts[0].ignored_columns,
        tuple(place for part in parts for place in part.repeated_headers),
        md5=md5,
    )


def stream_ads(path: Path, *, labelled: bool = True, max_file_gb: float = 8.0) -> Iterator[AdsPart]:
    """Read a CSV or Parquet file of ads, plain or inside a zip or gz, recognised by its content.

    Yields parts of at most some thousand ads, and at least one. Of labelled ads all 18 columns
    must be there. Without labels, only ``title`` and ``category_name`` must; the others are
    missing throughout where they are absent, and a target is dropped. Packed or unpacked, the
    file may hold ``max_file_gb`` times 10^9 bytes.

    Raises
    ------
    AdsFileError
        The file as a whole cannot be read; see :func:`demand.data.archives.open_ads` and
        :func:`demand.data.tables.open_table`. Or columns are missing, or there are no ads.
    """
    for part in stream_untyped(path, labelled=labelled, max_file_gb=max_file_gb):
        yield part.typed()
        report(part.read_share, 1.0)


@dataclass(frozen=True)
class UntypedPart:
    """Some consecutive ads of a file as text; pickled, it can be typed in another process."""

    typer: AdsTyper
    chunk: Chunk
    first_row: int
    read_share: float  # how much of the file was read when it came

    def typed(self) -> AdsPart:
        """Return the same ads, typed."""
        return self.typer.part(self.chunk, self.first_row)


def stream_untyped(
    path: Path, *, labelled: bool = True, max_file_gb: float = 8.0
) -> Iterator[UntypedPart]:
    """Read a file of ads as :func:`stream_ads` does, and leave the types for later."""
    max_bytes = int(max_file_gb * 1e9)
    rows = 0
    with open_ads(path, max_bytes) as opened:
        table = open_table(opened, Bounds(max_bytes))
        typer, size = AdsTyper(table, opened.name, labelled=labelled), path.stat().st_size
        for chunk in table.read(typer.columns):
            yield UntypedPart(typer, chunk, rows, opened.position() / size)
            rows += chunk.rows
    if not rows:
        raise AdsFileError(f"{opened.name} has a header but no ads: is it cut short?")


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


class AdsTyper:
    """Types chunks of one table of ads, in any order; pickled, it goes to other processes.

    Raises
    ------
    AdsFileError
        The table, of the file ``name``, lacks a column that is needed.
    """

    def __init__(self, table: Table, name: str, *, labelled: bool) -> None:
        _check_columns(table, name, labelled=labelled)
        self._names = [name for name in COLUMN_NAMES if labelled or name != TARGET]
        self._ignored = tuple(name for name in table.header if name not in COLUMN)
        self._parsers = {
            name: ColumnParser(COLUMN[name]) for name in self._names if name in table.header
        }

    @property
    def columns(self) -> Collection[str]:
        """The columns that a chunk must have."""
        return self._parsers.keys()

    def part(self, chunk: Chunk, first_row: int) -> AdsPart:
        """Type the chunk before which ``first_row`` ads are in the file."""
        typed, flaws = {}, []
        for name in self._names:
            if name not in self._parsers:
                typed[name] = missing_values(COLUMN[name].kind, chunk.rows)
                continue
            cells = chunk.columns[name]
            typed[name], flawed = self._parsers[name].parse(cells)
            for row, reason in flawed:
                line = first_row + row + 2 if chunk.lines is None else chunk.lines[row]
                flaws.append((row, line, name, cells[row][:_VALUE_LENGTH_MAX], reason))
        frame = pd.DataFrame(typed, copy=False)
        lines = None if chunk.lines is None else np.array(chunk.lines, dtype=np.int64)
        unparsed = _flaw_table(flaws, frame["item_id"])
        return AdsPart(frame, unparsed, lines, self._ignored, chunk.headers, first_row)


def _flaw_table(flaws: list[_Flaw], item_ids: pd.Series[Any]) -> pd.DataFrame:
    """Return ``unparsed`` of a part, in the order of its rows."""
    flaws.sort(key=lambda flaw: flaw[0])
    table = pd.DataFrame(flaws, columns=["row", "line", "column", "value", "reason"])
    table.insert(2, "item_id", item_ids.to_numpy()[table["row"].to_numpy(dtype=int)])
    return table.astype({name: "int64" if name in ("row", "line") else "object" for name in table})


class ColumnParser:
    """Types the cells of one column of the schema, chunk after chunk."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._parse = parser_of(column)
        self._known: dict[str, Any] = {}
        self._flawed: dict[str, str] = {}

    def parse(self, cells: Sequence[str]) -> tuple[npt.NDArray[Any], list[tuple[int, str]]]:
        """Return the typed cells, (n,), and position and reason of those not understood."""
        distinct = set(cells)
        new = distinct.difference(self._known)
        for cell in new:
            self._known[cell], reason = self._parse(cell)
            if reason is not None:
                self._flawed[cell] = reason
        values = typed_array(self._column.kind, list(map(self._known.__getitem__, cells)))
        flawed: list[tuple[int, str]] = []
        if not self._flawed.keys().isdisjoint(distinct):
            flawed = [
                (i, self._flawed[cell]) for i, cell in enumerate(cells) if cell in self._flawed
            ]
        # What hardly comes again, such as descriptions, would only fill the memory.
        if 2 * len(new) > len(cells) or len(self._known) > _REMEMBERED_MAX:
            self._known.clear()
            self._flawed.clear()
        return values, flawed
