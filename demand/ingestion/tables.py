"""CSV and Parquet as one thing: a header, and chunks of cells that are all text."""

from __future__ import annotations

import contextlib
import csv
import itertools
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demand.errors import AdsFileError
from demand.ingestion.archives import OpenedAds

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

    import pyarrow as pa

CHUNK_ROWS = 4_000
# One line, and one quoted text, of a CSV file. No ad comes near it, but an unclosed
# quote would otherwise take the rest of the file for one text.
TEXT_BYTES_MAX = 16 * 2**20

_UTF8_BOM = b"\xef\xbb\xbf"
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r")
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows: ``columns[name][j]`` is the text of row j, "" where missing.

    ``lines[j]`` is the line of the file in which row j begins, counted from 1; None
    where the format has no lines.
    """

    columns: dict[str, Sequence[str]]
    lines: Sequence[int] | None
    rows: int


@dataclass(frozen=True)
class Table:
    """A header and the rows below it.

    ``read(names)`` yields the rows of the columns named, once and in order.
    """

    header: tuple[str, ...]
    read: Callable[[Collection[str]], Iterator[Chunk]]


def open_table(opened: OpenedAds, max_bytes: int) -> Table:
    """Read the header now and the rows when they are asked for.

    Raises
    ------
    AdsFileError
        Now or while the rows are read: binary content, no UTF-8, columns separated
        by something other than commas, a column name that is there twice, broken
        quoting, a row with too few or too many fields, a damaged Parquet file, a
        Parquet column of a type that is no text, number or date.
    """
    table = _open_parquet(opened, max_bytes) if opened.is_parquet else _open_csv(opened)
    twice = [repr(name) for name, count in Counter(table.header).items() if count > 1]
    if twice:
        raise AdsFileError(
            f"{opened.name}: {', '.join(twice)} is the name of more than one column: "
            "rename or remove one of them"
        )
    return table


def _open_csv(opened: OpenedAds) -> Table:
    stream, name = opened.stream, opened.name
    sample = stream.peek(1)
    _refuse_binary(sample, name)
    _refuse_other_delimiter(sample, name)
    reader = csv.reader(_decoded_lines(opened), strict=True)
    rows, _ = _next_rows(reader, None, 1, name)
    if not rows:
        raise AdsFileError(f"{name} is empty: it has no header and no ads; download it again")
    header = rows[0]

    def read(wanted: Collection[str]) -> Iterator[Chunk]:
        positions = [i for i, column in enumerate(header) if column in wanted]
        while True:
            rows, lines = _next_rows(reader, len(header), CHUNK_ROWS, name)
            if not rows:
                return
            cells = list(zip(*rows, strict=True))
            yield Chunk({header[i]: cells[i] for i in positions}, lines, len(rows))

    return Table(tuple(header), read)


def _next_rows(
    reader: CsvReader, width: int | None, count: int, name: str
) -> tuple[list[list[str]], list[int]]:
    """Return up to ``count`` rows that are not blank, and the line where each begins."""
    rows: list[list[str]] = []
    lines: list[int] = []
    with _long_texts():
        try:
            while len(rows) < count:
                start = reader.line_num + 1
                row = next(reader, None)
                if row is None:
                    break
                if not row:
                    continue
                if width is not None and len(row) != width:
                    raise AdsFileError(
                        f"{name}, line {start}: a row of {len(row)} fields under a header of "
                        f"{width}; is a text with a comma or line break not in quotes, or the "
                        "file cut short?"
                    )
                rows.append(row)
                lines.append(start)
        except csv.Error as error:
            raise _broken_csv(error, start, reader.line_num, name) from error
    return rows, lines


def _broken_csv(error: csv.Error, start: int, line: int, name: str) -> AdsFileError:
    """Say what the csv module found, and where the row with it begins."""
    if "new-line" in str(error):
        return AdsFileError(
            f"{name}, line {line}: a carriage return alone ends no line here; save the file "
            "with line ends as on Linux or Windows"
        )
    return AdsFileError(
        f"{name}, line {line}: broken quoting in the row that begins in line {start} ({error}); "
        'a text with quotes in it must be in quotes, and each of its own quotes doubled ("")'
    )


@contextlib.contextmanager
def _long_texts() -> Iterator[None]:
    """Let quoted texts be long; the limit belongs to the process, so it is put back."""
    before = csv.field_size_limit(TEXT_BYTES_MAX)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _refuse_binary(sample: bytes, name: str) -> None:
    """Refuse what is no text at all; a NUL byte further down is a flaw of one cell."""
    first_line = sample.split(b"\n", 1)[0]
    try:
        first_line.decode("utf-8")
        suspicious = first_line
    except UnicodeDecodeError:
        suspicious = sample
    if _CONTROLS.intersection(suspicious):
        raise AdsFileError(
            f"{name} is a binary file, not CSV or Parquet: name the file with the ads"
        )


def _refuse_other_delimiter(sample: bytes, name: str) -> None:
    first_line = sample.split(b"\n", 1)[0]
    if b"," in first_line:
        return
    for delimiter, word in _DELIMITERS.items():
        if delimiter.encode() in first_line:
            raise AdsFileError(
                f"{name}: the columns are separated by {word} ({delimiter!r}), not by commas; "
                "save it again as CSV with commas"
            )


def _decoded_lines(opened: OpenedAds) -> Iterator[str]:
    """Yield the lines as text; only a line feed ends one, as editors count them."""
    for number in itertools.count(1):
        line = opened.stream.readline(TEXT_BYTES_MAX)
        if not line:
            return
        if number == 1:
            line = line.removeprefix(_UTF8_BOM)
        if len(line) == TEXT_BYTES_MAX and not line.endswith(b"\n"):
            raise AdsFileError(
                f"{opened.name}, line {number}: a line of over {TEXT_BYTES_MAX >> 20} MB is "
                "not of a CSV file of ads; save the ads with one row per ad"
            )
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _encoding_error(line, number, error.start, opened) from error


def _encoding_error(line: bytes, number: int, start: int, opened: OpenedAds) -> AdsFileError:
    """Name the encoding that a line which is not UTF-8 seems to have."""
    high = [byte for byte in line if byte >= 0x80]
    lower, upper = (sum(low <= b < low + 32 for b in high) for low in (0xE0, 0xC0))
    where = f"{opened.name}, line {number}, byte {start + 1}: "
    if lower + upper < 0.8 * len(high):
        return AdsFileError(f"{where}this is not UTF-8 text; the file is damaged, get it again")
    # Small letters, the most of any text, lie high in cp1251 and low in KOI8-R.
    encoding = "cp1251" if lower >= upper else "koi8-r"
    source = shlex.quote(opened.unpacked_name)
    target = shlex.quote(f"{opened.unpacked_name}.utf8.csv")
    return AdsFileError(
        f"{where}this is not UTF-8, it looks like {encoding}; convert it: "
        f"iconv -f {encoding.upper()} -t UTF-8 {source} > {target}"
    )


def _open_parquet(opened: OpenedAds, max_bytes: int) -> Table:
    import pyarrow.parquet as pq

    name = opened.name
    with _parquet_errors(name):
        file = pq.ParquetFile(opened.stream)
        metadata = file.metadata
        groups = range(metadata.num_row_groups)
        size = sum(metadata.row_group(i).total_byte_size for i in groups)
        header = tuple(file.schema_arrow.names)
    if size > max_bytes:
        raise AdsFileError(
            f"{name} unpacks to {size / 1e9:.3g} GB, more than the {max_bytes / 1e9:.3g} GB "
            "allowed: raise data.max_file_gb in the config if you trust it"
        )

    def read(wanted: Collection[str]) -> Iterator[Chunk]:
        columns = [column for column in header if column in wanted]
        with _parquet_errors(name):
            for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=columns):
                cells = {column: _as_text(batch.column(column), column, name) for column in columns}
                yield Chunk(cells, None, batch.num_rows)

    return Table(header, read)


def _as_text(array: pa.Array, column: str, name: str) -> Sequence[str]:
    """Write the values as a CSV file would have them; numbers in their shortest form."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    try:
        if pa.types.is_dictionary(kind):
            array = array.dictionary_decode()
        if pa.types.is_floating(array.type):
            array = pc.if_else(pc.is_nan(array), None, array)
        texts: list[str] = pc.fill_null(pc.cast(array, pa.large_string()), "").to_pylist()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise AdsFileError(
            f"{name}: column {column!r} has the Parquet type {kind}, which cannot be read as text, "
            f"number or date ({error})"
        ) from error
    return texts


@contextlib.contextmanager
def _parquet_errors(name: str) -> Iterator[None]:
    """Turn what a damaged Parquet file raises into one message."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        what = " ".join(str(error).split())
        raise AdsFileError(
            f"{name} is a damaged or truncated Parquet file ({what}): get it again"
        ) from error
