"""A file that somebody uploaded, into ads that can be asked about and rows that cannot.

The project's own reader reads it, from a copy in which what would make that reader refuse the
whole file is set right or set aside: a row with a field too many, a spreadsheet's semicolons.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from demand.data.archives import open_ads
from demand.data.flaws import cleaned, complete
from demand.data.reading import LoadedAds, read_ads
from demand.errors import AdsFileError
from demand.page.api import Answer
from demand.schema.columns import COLUMN, INPUT_COLUMNS, REQUEST_REQUIRED
from demand.serving.recommendations import Suggestion

ROWS_MAX = 50_000
FILE_MB_MAX = 64
_BYTES_MAX = FILE_MB_MAX * 10**6
# One column of the header is a cell of every row.
_COLUMNS_MAX = 1_000
# Delimiters in one row, those inside its texts included, and characters in one line: more
# than any ad has, and few enough to hold.
_CELLS_MAX = 150_000
_LINE_MAX = 16 * 2**20
# Of the header, to find the delimiter in.
_HEADER_BYTES = 2**16
_DELIMITERS = (",", ";", "\t")
_ENCODINGS = ("utf-8-sig", "cp1251")


class UploadError(Exception):
    """A file that cannot be answered: the key of the text that says so, and values for it.

    In detail that is what the reader said.
    """

    def __init__(self, key: str, detail: str = "", **values: object) -> None:
        super().__init__(detail or key)
        self.key, self.detail, self.values = key, detail, values


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row: the column, or None for the whole row, and why."""

    column: str | None
    reason: str


@dataclass
class Row:
    """One row of the file and what became of it; the line is where it begins, from 1.

    Of the ad there are title, price and whether it has a description; it is None where there is
    too little to ask. An ad is answered without the cells that its problems name, and refused
    where the API did not take it. Of suggestions, the value of a description is only its length.
    An ad is compared with those of all categories where its own has no percentiles.
    """

    line: int
    item_id: str | None
    ad: Mapping[str, Any] | None
    problems: list[Problem] = field(default_factory=list)
    answer: Answer | None = None
    suggestions: tuple[Suggestion, ...] = ()
    refused: bool = False
    among_all: bool = False

    def refuse(self, column: str | None, reason: str) -> None:
        """Say that the API did not take it, and why."""
        self.problems.append(Problem(column, reason or "refused"))
        self.refused = True


@dataclass(frozen=True)
class Upload:
    """The rows of a file in its order, and of each what a request may carry of it.

    That is None where a row has no title or category. A row that has an ad is answered
    without the cells in which something is wrong.
    """

    rows: list[Row]
    ads: list[dict[str, Any] | None]


def read_upload(path: Path) -> Upload:
    """Read a file of ads.

    UploadError: it is no CSV of ads, lacks a column that every ad needs, or has too many rows.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", dir=path.parent) as copy:
        try:
            ragged, lines = _normalized(path, copy)
            copy.flush()
            loaded = read_ads(Path(copy.name), labelled=False, max_file_gb=FILE_MB_MAX / 1000)
        except AdsFileError as error:
            # Where this machine keeps the upload is nobody's business.
            told = str(error).replace(copy.name, path.name).replace(f"{path.parent}/", "")
            raise _upload_error(told) from error
    return _upload(loaded, ragged, lines)


def _upload(loaded: LoadedAds, ragged: dict[int, Problem], lines: list[int]) -> Upload:
    frame, _ = cleaned(loaded)
    ads = [ad if ok else None for ad, ok in zip(_records(frame), complete(frame), strict=True)]
    rows = []
    for line, item_id, ad in zip(lines, frame["item_id"].tolist(), ads, strict=True):
        # What table and CSV need: a visit remembers thousands.
        shown = ad and {
            **{name: ad[name] for name in ("title", "price") if name in ad},
            "description": bool(ad.get("description")),
        }
        rows.append(Row(line, item_id, shown))
    for row, problem in ragged.items():
        rows[row].problems.append(problem)
    unread = loaded.unparsed[["row", "column", "reason"]]
    for row, column, reason in unread.itertuples(index=False, name=None):
        rows[row].problems.append(Problem(str(column), str(reason)))
    beyond = frame.isna() & loaded.frame.notna()
    for row, place in np.argwhere(beyond.to_numpy()).tolist():
        rows[row].problems.append(Problem(str(frame.columns[place]), "bounds"))
    lacking = frame[list(REQUEST_REQUIRED)].isna().to_numpy()
    for row, place in np.argwhere(lacking).tolist():
        if row not in ragged:
            rows[row].problems.append(Problem(REQUEST_REQUIRED[place], "missing"))
    return Upload(rows, ads)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what is known of each ad, as a request carries it."""
    known = frame[[column.name for column in INPUT_COLUMNS]].copy()
    for column in INPUT_COLUMNS:
        if column.kind == "date":
            known[column.name] = known[column.name].dt.strftime("%Y-%m-%d")
    values = known.astype(object).where(known.notna(), None).to_dict("records")
    return [{str(name): value for name, value in ad.items() if value is not None} for ad in values]


def _normalized(path: Path, target: IO[str]) -> tuple[dict[int, Problem], list[int]]:
    """Write a file anew as the reader wants it: UTF-8, commas, the columns of an ad.

    Returned are the rows whose fields are not as many as the header's, which are left empty, and
    the line of every row, from 1.
    """
    for encoding in _ENCODINGS:
        try:
            with open_ads(path, _BYTES_MAX) as opened:
                if opened.is_parquet:
                    told = "Parquet is not taken here: save it as CSV"
                    raise UploadError("file.unreadable", told)
                first = opened.stream.peek(1)[:_HEADER_BYTES].lstrip(b"\r\n").split(b"\n", 1)[0]
                text = io.TextIOWrapper(opened.stream, encoding, newline="")
                return _rewritten(text, _delimiter(first.decode(encoding, "replace")), target)
        except UnicodeDecodeError:
            target.seek(0)
            target.truncate()
    raise UploadError("file.unreadable", "this is no text in UTF-8 or Windows-1251")


def _delimiter(header: str) -> str:
    """Return the delimiter by which a header has what every ad needs, or else a comma."""

    def names(delimiter: str) -> set[str]:
        return set(map(str.strip, next(csv.reader([header], delimiter=delimiter), [])))

    return next((each for each in _DELIMITERS if names(each).issuperset(REQUEST_REQUIRED)), ",")


def _rewritten(
    text: io.TextIOWrapper, delimiter: str, target: IO[str]
) -> tuple[dict[int, Problem], list[int]]:
    writer = csv.writer(target, lineterminator="\r\n")
    ragged: dict[int, Problem] = {}
    lines: list[int] = []
    header: list[str] = []
    unclosed, line = False, 0
    try:
        for line, cells in _rows(text, delimiter):
            if not header:
                header = [name.strip() for name in cells]
                if len(header) > _COLUMNS_MAX:
                    raise UploadError("file.unreadable", f"more than {_COLUMNS_MAX} columns")
                if not set(header).issuperset(REQUEST_REQUIRED):
                    # The reader says which columns it lacks, and what may be meant by others.
                    writer.writerow(header)
                    break
                # What is no column of an ad would only take room.
                known = [place for place, name in enumerate(header) if name in COLUMN]
                writer.writerow([header[place] for place in known])
            elif len(cells) != len(header):
                unclosed = any("\n" in cell for cell in cells)
                ragged[len(lines)] = Problem(None, f"fields:{len(cells)}:{len(header)}")
                lines.append(line)
                writer.writerow([""] * len(known))
            elif any(cells[place].strip("\ufeff ") != header[place] for place in known):
                unclosed = False
                lines.append(line)
                writer.writerow([cells[place] for place in known])
    except csv.Error as error:
        # No text of an ad is so long; what is below it cannot be told from it.
        raise UploadError("file.unreadable", f"below line {line}: {error}") from error
    if unclosed:
        ragged[len(lines) - 1] = Problem(None, "quote")
    return ragged, lines


def _rows(text: io.TextIOWrapper, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of the header and of each row that is not blank.

    :class:`UploadError`: there are more rows than may be, or one has more cells than any table.
    """
    cells_seen = 0

    def lines() -> Iterator[str]:
        nonlocal cells_seen
        while line := text.readline(_LINE_MAX):
            cells_seen += line.count(delimiter)
            if cells_seen > _CELLS_MAX or len(line) == _LINE_MAX:
                raise UploadError("file.unreadable", "a row is too long")
            yield line

    reader = csv.reader(lines(), delimiter=delimiter)
    line, found = 1, 0
    for cells in reader:
        cells_seen = 0
        if cells:
            found += 1
            if found > ROWS_MAX + 1:
                raise UploadError("file.too_many", most=ROWS_MAX)
            yield line, cells
        line = reader.line_num + 1


def _upload_error(told: str) -> UploadError:
    """Return what the reader said of a file in the terms of the page."""
    lacking = [name for name in REQUEST_REQUIRED if f" {name}" in told.split("the header")[0]]
    if "lacks" in told and lacking:
        return UploadError("file.lacks", told, columns=", ".join(lacking))
    if "no ads" in told or "is empty" in told:
        return UploadError("file.empty", told)
    return UploadError("file.unreadable", told)
