"""Parquet as a table of text, of which no more is unpacked than is allowed.

A page of a kilobyte may hold one title a million times: as an index into a dictionary, or
as what it has in common with the title before it. So the footer is asked first, then the
dictionaries; and rows are unpacked in batches that cannot come to much, and counted. A footer
that was forged is believed: one page of such a file may unpack to 2 GB.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from demand.data.archives import OpenedAds, refuse_bomb, refuse_size
from demand.data.tables import CHUNK_ROWS, COLUMNS_MAX, Bounds, Chunk, Table
from demand.errors import AdsBombError, AdsFileError

# What rows that are unpacked at once may come to.
_BATCH_BYTES = 64 * 2**20
_GROUPS_MAX = 1_000_000
_SPLIT, _KNOWN = "send them in parts", "leave out what is no column of an ad"


def open_parquet(opened: OpenedAds, bounds: Bounds) -> Table:
    """Read the footer now, and the rows when they are asked for.

    Raises
    ------
    AdsBombError
        Now or later: more rows, columns or bytes than are allowed.
    AdsFileError
        It is damaged; or, later, a column is of a type that is no text, number or date.
    """
    name = opened.name
    with _parquet_errors(name):
        file = pq.ParquetFile(opened.stream, thrift_container_size_limit=COLUMNS_MAX)
        _refuse_footer(file.metadata, opened, bounds)
        header = tuple(column for column in file.schema_arrow.names if not _is_index(column))

    def read(wanted: Collection[str]) -> Iterator[Chunk]:
        columns = [column for column in header if column in wanted]
        unpacked = 0
        with _parquet_errors(name):
            for column in columns:
                kind = file.schema_arrow.field(column).type
                if pa.types.is_nested(kind):
                    raise _unreadable(name, column, kind, "it is nested")
            size = _batch_rows(opened, file.metadata, columns)
            cells: dict[str, list[str]] = {column: [] for column in columns}
            rows = begun = 0
            for batch in file.iter_batches(batch_size=size, columns=columns):
                arrays = {column: _decoded(batch.column(column)) for column in columns}
                unpacked += sum(array.nbytes + len(array) for array in arrays.values())
                refuse_bomb(name, unpacked, opened.packed_bytes, bounds.unpacked_bytes)
                for column, array in arrays.items():
                    cells[column] += _as_text(array, column, name)
                rows += batch.num_rows
                # Batches are small where texts could be long; most often they are not.
                if rows >= CHUNK_ROWS or unpacked - begun >= _BATCH_BYTES:
                    yield Chunk(dict(cells), None, rows)
                    cells, rows, begun = {column: [] for column in columns}, 0, unpacked
            if rows:
                yield Chunk(dict(cells), None, rows)

    return Table(header, read)


def _refuse_footer(footer: pq.FileMetaData, opened: OpenedAds, bounds: Bounds) -> None:
    """Refuse what the file itself says is too much."""
    name, rows, columns = opened.name, footer.num_rows, footer.num_columns
    if bounds.rows is not None and rows > bounds.rows:
        raise AdsBombError(f"{rows:,} ads in {name}; at most {bounds.rows:,}", _SPLIT)
    if columns > bounds.columns or columns * footer.num_row_groups > _GROUPS_MAX:
        raise AdsBombError(f"{columns:,} columns in {name}; at most {bounds.columns:,}", _KNOWN)
    groups = (footer.row_group(number) for number in range(footer.num_row_groups))
    # As CSV, every row has a line feed, however little it takes here.
    size = max(rows, sum(group.total_byte_size for group in groups))
    refuse_size(f"{name} unpacks to", size, bounds.unpacked_bytes)
    refuse_bomb(name, size, opened.packed_bytes, bounds.unpacked_bytes)


def _is_index(column: str) -> bool:
    """Say whether pandas wrote this column for an index without a name."""
    return column.startswith("__index_level_") and column.endswith("__")


def _batch_rows(opened: OpenedAds, footer: pq.FileMetaData, columns: Sequence[str]) -> int:
    """Return how many rows come to no more than a batch may, whatever their texts are.

    A text that lies in a dictionary is as long as that says. One that is written by what it
    shares with the one before it may be as long as all its column.
    """
    numbers = {footer.schema.column(n).path: n for n in range(footer.num_columns)}
    # Without a buffer for what comes later, only the first pages are read.
    dictionaries = pq.ParquetFile(
        opened.stream,
        metadata=footer,
        read_dictionary=columns,
        pre_buffer=False,
        buffer_size=1 << 16,
    )
    longest = 1
    for group in range(footer.num_row_groups):
        length, coded = 0, []
        for column in columns:
            chunk = footer.row_group(group).column(numbers[column])
            if "DELTA_BYTE_ARRAY" in chunk.encodings:
                length += chunk.total_uncompressed_size
            elif chunk.physical_type == "FIXED_LEN_BYTE_ARRAY":
                length += footer.schema.column(numbers[column]).length
            elif chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page:
                coded.append(column)
        batches = dictionaries.iter_batches(batch_size=1, row_groups=[group], columns=coded)
        first = next(batches, None) if coded else None
        for array in () if first is None else first.columns:
            length += pc.max(pc.binary_length(array.dictionary)).as_py() or 0
        longest = max(longest, length)
    return max(1, min(CHUNK_ROWS, _BATCH_BYTES // longest))


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _as_text(array: pa.Array, column: str, name: str) -> Sequence[str]:
    """Write the values as a CSV file would have them; numbers in their shortest form."""
    kind = array.type
    try:
        if pa.types.is_floating(array.type):
            array = pc.if_else(pc.is_nan(array), None, array)
        texts: list[str] = pc.fill_null(pc.cast(array, pa.large_string()), "").to_pylist()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise _unreadable(name, column, kind, error) from error
    return texts


def _unreadable(name: str, column: str, kind: Any, why: object) -> AdsFileError:
    return AdsFileError(
        f"{name}: column {column!r} has the Parquet type {kind}, which cannot be read as text, "
        f"number or date ({why})"
    )


@contextlib.contextmanager
def _parquet_errors(name: str) -> Iterator[None]:
    """Turn what a damaged Parquet file raises into one message."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        what = " ".join(str(error).split())
        if "Exceeded size limit" in what:
            much = f"{name} has more than {COLUMNS_MAX:,} columns or groups of rows"
            raise AdsBombError(much, _KNOWN) from error
        raise AdsFileError(
            f"{name} is a damaged or truncated Parquet file ({what}): get it again"
        ) from error
