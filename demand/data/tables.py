"""CSV and Parquet as one thing: a header, and chunks of cells that are all text."""

from __future__ import annotations

import csv
import itertools
import shlex
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demand.data.archives import OpenedAds
from demand.errors import AdsFileError, AdsRowError
from demand.schema.columns import COLUMN

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

CHUNK_ROWS = 4_000
# One line, and one quoted text, of a CSV file. No ad comes near it, but an unclosed
# quote would otherwise take the rest of the file for one text.
TEXT_BYTES_MAX = 16 * 2**20
# Columns, or groups of rows, in one file; pages have as many columns as files of ads have.
COLUMNS_MAX = 100_000

# More delimiters in a line than in any ad: each may become an object.
_FIELDS_MAX = 200_000
_TWICE_LENGTH_MAX = 300
# Of the csv module, for texts; threads would put back what others have set.
_LIMIT = threading.Lock()
_UTF8_BOM = b"\xef\xbb\xbf"
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r")
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class Bounds:
    """What may come out: bytes of the texts, as CSV has them, rows (None: all), and columns."""

    unpacked_bytes: int
    rows: int | None = None
    columns: int = COLUMNS_MAX


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows."""

    columns: dict[str, Sequence[str]]  # a text for each row, "" where missing
    lines: Sequence[int] | None  # in which rows begin, from 1; None where the format has none
    rows: int
    # Lines, or rows from 1, that were left out because they say the header again.
    headers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """A header and the rows below it."""

    header: tuple[str, ...]
    # Yields the rows of the columns named, once and in order.
    read: Callable[[Collection[str]], Iterator[Chunk]]


def open_table(opened: OpenedAds, bounds: Bounds) -> Table:
    """Read the header now and the rows when they are asked for.

    A row that says the header again, as where two exports were put one after the other, is
    left out.

    Raises
    ------
    AdsBombError
        Parquet of more than the bounds allow; a CSV file's bytes are counted as they come.
    AdsRowError
        While rows are read: one has too few or too many fields, or is a header of another
        table.
    AdsFileError
        Now or while the rows are read: binary content, no UTF-8, columns separated
        by something other than commas, a column name that is there twice, broken
        quoting, a damaged Parquet file, a Parquet column of a type that is no text,
        number or date.
    """
    if opened.is_parquet:
        from demand.data.parquet import open_parquet  # with pyarrow, which images lack

        table = open_parquet(opened, bounds)
    else:
        table = _open_csv(opened)
    twice = [repr(name) for name, count in Counter(table.header).items() if count > 1]
    if twice:
        raise AdsFileError(
            f"{opened.name}: {', '.join(twice)[:_TWICE_LENGTH_MAX]} is the name of more than "
            "one column: rename or remove one of them"
        )

    def read(wanted: Collection[str]) -> Iterator[Chunk]:
        rows = 0
        for chunk in table.read(wanted):
            yield _without_headers(chunk, rows, opened.name)
            rows += chunk.rows

    return Table(table.header, read)


def _without_headers(chunk: Chunk, first_row: int, name: str) -> Chunk:
    """Leave out rows in which each column says its own name."""
    categories = chunk.columns.get("category_name", ())
    if COLUMN.keys().isdisjoint(categories):
        return chunk
    headers: dict[int, int] = {}
    for row in (row for row, category in enumerate(categories) if category in COLUMN):
        cells = {column: texts[row].strip("\ufeff ") for column, texts in chunk.columns.items()}
        place = first_row + row + 1 if chunk.lines is None else chunk.lines[row]
        if all(column == cell for column, cell in cells.items()):
            headers[row] = place
        elif sum(cell in COLUMN for cell in cells.values()) > 1:
            where = "row" if chunk.lines is None else "line"
            raise AdsRowError(
                f"{name}, {where} {place}: a second header, of other columns or in another "
                "order; make what is below it a file of its own",
                first_row + row,
            )
    kept = [row not in headers for row in range(chunk.rows)]
    return Chunk(
        {name: list(itertools.compress(texts, kept)) for name, texts in chunk.columns.items()},
        None if chunk.lines is None else list(itertools.compress(chunk.lines, kept)),
        sum(kept),
        tuple(headers.values()),
    )


def _open_csv(opened: OpenedAds) -> Table:
    stream, name = opened.stream, opened.name
    _refuse_other_text(stream.peek(1), name)
    reader = csv.reader(_decoded_lines(opened), strict=True)
    rows, _ = _next_rows(reader, None, 1, name)
    if not rows:
        raise AdsFileError(f"{name} is empty: it has no header and no ads; download it again")
    header = rows[0]

    def read(wanted: Collection[str]) -> Iterator[Chunk]:
        positions = [i for i, column in enumerate(header) if column in wanted]
        before = 0
        while True:
            rows, lines = _next_rows(reader, len(header), CHUNK_ROWS, name, before)
            before += len(rows)
            if not rows:
                return
            cells = list(zip(*rows, strict=True))
            yield Chunk({header[i]: cells[i] for i in positions}, lines, len(rows))

    return Table(tuple(header), read)


def _next_rows(
    reader: CsvReader, width: int | None, count: int, name: str, before: int = 0
) -> tuple[list[list[str]], list[int]]:
    """Return up to ``count`` rows that are not blank, and the line where each begins."""
    rows: list[list[str]] = []
    lines: list[int] = []
    # Quoted texts may be long; the limit belongs to the process, so it is put back.
    with _LIMIT:
        limit = csv.field_size_limit(TEXT_BYTES_MAX)
        try:
            while len(rows) < count:
                start = reader.line_num + 1
                row = next(reader, None)
                if row is None:
                    break
                if not row:
                    continue
                if width is not None and len(row) != width:
                    raise AdsRowError(
                        f"{name}, line {start}: a row of {len(row)} fields under a header of "
                        f"{width}; is a text with a comma or line break not in quotes, or the "
                        "file cut short?",
                        before + len(rows),
                    )
                rows.append(row)
                lines.append(start)
        except csv.Error as error:
            raise _broken_csv(error, start, reader.line_num, name) from error
        finally:
            csv.field_size_limit(limit)
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


def _refuse_other_text(sample: bytes, name: str) -> None:
    """Refuse what is no text at all, or text whose columns are separated by other signs.

    A NUL byte further down than the first line is a flaw of one cell.
    """
    first_line = sample.split(b"\n", 1)[0]
    try:
        header = first_line.decode("utf-8")
        suspicious = first_line
    except UnicodeDecodeError:
        header, suspicious = first_line.decode("latin-1"), sample
    if _CONTROLS.intersection(suspicious):
        raise AdsFileError(
            f"{name} is a binary file, not CSV or Parquet: name the file with the ads"
        )
    delimiter = next((sign for sign in _DELIMITERS if sign in header), ",")
    if "," not in header and delimiter != ",":
        raise AdsFileError(
            f"{name}: the columns are separated by {_DELIMITERS[delimiter]} ({delimiter!r}), not "
            "by commas; save it again as CSV with commas"
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
        if len(line) > _FIELDS_MAX and line.count(b",") > _FIELDS_MAX:
            raise AdsFileError(
                f"{opened.name}, line {number}: a line of over {_FIELDS_MAX:,} commas is not of "
                "a CSV file of ads; save the ads with one row per ad"
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
