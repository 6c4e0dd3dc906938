"""A file that somebody uploaded, into ads that can be asked about and rows that cannot.

The project's own reader reads it. What would make that reader refuse the whole file, a row
with a field too many or a spreadsheet's semicolons, is set right or set aside before.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from demand.ads import COLUMN, INPUT_COLUMNS, REQUEST_REQUIRED
from demand.batch import cleaned, complete
from demand.errors import AdsFileError
from demand.ingestion.archives import OpenedAds, open_ads
from demand.ingestion.reading import LoadedAds, read_ads

ROWS_MAX = 50_000
FILE_MB_MAX = 64
_BYTES_MAX = FILE_MB_MAX * 10**6
# One column of the header is a cell of every row.
_COLUMNS_MAX = 1_000
# Delimiters in one row, those inside its texts included, and characters in one line: more
# than any ad has, and few enough to hold.
_CELLS_MAX = 150_000
_LINE_MAX = 16 * 2**20
_DELIMITERS = (",", ";", "\t")
_ENCODINGS = ("utf-8-sig", "cp1251")


class UploadError(Exception):
    """A file that cannot be answered, in the terms of the page.

    Parameters
    ----------
    key
        Of the text that says so.
    detail
        What the reader said.
    values
        For the text.
    """

    def __init__(self, key: str, detail: str = "", **values: object) -> None:
        super().__init__(detail or key)
        self.key = key
        self.detail = detail
        self.values = values


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row: the column, or None for the whole row, and why."""

    column: str | None
    reason: str


@dataclass(frozen=True)
class Upload:
    """The rows of a file, in its order.

    Parameters
    ----------
    ads
        What a request may carry of each row; None where it has no title or category.
    places
        The line where each begins, from 1.
    ids
        ``item_id`` of each; None where it is missing.
    problems
        What is wrong with some rows, by their number from 0. A row that has an ad is
        answered without the cells that are named.
    """

    ads: tuple[dict[str, Any] | None, ...]
    places: tuple[int, ...]
    ids: tuple[str | None, ...]
    problems: dict[int, list[Problem]]


def read_upload(path: Path) -> Upload:
    """Read a file of ads.

    Raises
    ------
    UploadError
        It is no CSV of ads, lacks a column that every ad needs, or has too many rows.
    """
    ragged: dict[int, Problem] = {}
    lines: list[int] | None = None
    try:
        _refuse_many(path)
        loaded = _read(path)
    except AdsFileError as error:
        loaded, ragged, lines = _read_repaired(path, error)
    if len(loaded.frame) > ROWS_MAX:
        raise _too_many()
    return _upload(loaded, ragged, lines)


def _read(path: Path) -> LoadedAds:
    return read_ads(path, labelled=False, max_file_gb=FILE_MB_MAX / 1000)


def _upload(loaded: LoadedAds, ragged: dict[int, Problem], lines: list[int] | None) -> Upload:
    frame, _ = cleaned(loaded)
    answerable = complete(frame)
    problems: dict[int, list[Problem]] = {row: [problem] for row, problem in ragged.items()}
    unread = loaded.unparsed
    for row, column, reason in zip(
        unread["row"].tolist(), unread["column"], unread["reason"], strict=True
    ):
        problems.setdefault(row, []).append(Problem(str(column), str(reason)))
    for column in frame.columns:
        beyond = (frame[column].isna() & loaded.frame[column].notna()).to_numpy()
        for row in np.flatnonzero(beyond).tolist():
            problems.setdefault(row, []).append(Problem(str(column), "bounds"))
    for row in np.flatnonzero(~answerable).tolist():
        if row not in ragged:
            lacking = frame[list(REQUEST_REQUIRED)].iloc[row].isna()
            problems.setdefault(row, []).extend(
                Problem(str(name), "missing") for name in lacking.index[lacking]
            )
    records = _records(frame)
    if lines is None:
        found = loaded.lines
        lines = list(range(1, len(frame) + 1)) if found is None else found.tolist()
    return Upload(
        ads=tuple(ad if ok else None for ad, ok in zip(records, answerable, strict=True)),
        places=tuple(lines),
        ids=tuple(frame["item_id"].tolist()),
        problems=problems,
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what is known of each ad, as a request carries it."""
    columns: dict[str, list[Any]] = {}
    for column in INPUT_COLUMNS:
        values = frame[column.name]
        if column.kind == "date":
            text = values.dt.strftime("%Y-%m-%d")
            columns[column.name] = text.astype(object).where(values.notna(), None).tolist()
        else:
            columns[column.name] = values.astype(object).where(values.notna(), None).tolist()
    names = list(columns)
    return [
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in zip(*columns.values(), strict=True)
    ]


def _refuse_many(path: Path) -> None:
    """Count the rows as the reader would find them, before it takes memory for any."""
    with open_ads(path, _BYTES_MAX) as opened:
        if opened.is_parquet:
            raise UploadError("file.unreadable", "Parquet is not taken here: save it as CSV")
        first = _first_line(opened)
        if b"," not in first and any(other in first for other in (b";", b"\t", b"|")):
            # The reader refuses it by its first line, and by commas it would count wrongly.
            return
        text = io.TextIOWrapper(opened.stream, "utf-8-sig", "replace", newline="")
        line = 0
        try:
            for number, (line, cells) in enumerate(_rows(text, ",")):  # noqa: B007
                if number == 0 and len(cells) > _COLUMNS_MAX:
                    raise UploadError("file.unreadable", f"more than {_COLUMNS_MAX} columns")
        except csv.Error as error:
            # No text of an ad is so long; what is below it cannot be counted.
            raise UploadError("file.unreadable", f"below line {line}: {error}") from error


def _read_repaired(
    path: Path, refused: AdsFileError
) -> tuple[LoadedAds, dict[int, Problem], list[int]]:
    """Read a file that the reader refused, written anew as it wants it.

    Returns
    -------
    tuple
        The ads; rows whose fields are not as many as the header's, which are left empty, and
        the line of every row.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent) as file:
        try:
            repaired = _repaired(path, file)
            if repaired is None:
                raise _upload_error(refused, path) from refused
            file.flush()
            return _read(Path(file.name)), *repaired
        except AdsFileError as again:
            raise _upload_error(again, path) from again


def _repaired(path: Path, target: IO[str]) -> tuple[dict[int, Problem], list[int]] | None:
    """Write a spreadsheet's CSV anew; None where the file is no such table."""
    for encoding in _ENCODINGS:
        try:
            with open_ads(path, _BYTES_MAX) as opened:
                return _rewritten(opened, encoding, target)
        except UnicodeDecodeError:
            target.seek(0)
            target.truncate()
        except csv.Error:
            return None
    return None


def _rewritten(
    opened: OpenedAds, encoding: str, target: IO[str]
) -> tuple[dict[int, Problem], list[int]] | None:
    first = _first_line(opened)
    if b"\0" in first:
        return None
    delimiter = max(_DELIMITERS, key=lambda each: first.count(each.encode()))
    rows = _rows(io.TextIOWrapper(opened.stream, encoding, newline=""), delimiter)
    header = [name.strip() for name in next(rows, (1, []))[1]]
    if any(name not in header for name in REQUEST_REQUIRED) or len(set(header)) < len(header):
        return None
    # What is no column of an ad would only take room.
    known = [place for place, name in enumerate(header) if name in COLUMN]
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([header[place] for place in known])
    ragged: dict[int, Problem] = {}
    lines: list[int] = []
    unclosed = False
    for number, (line, cells) in enumerate(rows):
        lines.append(line)
        if len(cells) == len(header):
            unclosed = False
            writer.writerow([cells[place] for place in known])
            continue
        unclosed = any("\n" in cell for cell in cells)
        ragged[number] = Problem(None, f"fields:{len(cells)}:{len(header)}")
        writer.writerow([""] * len(known))
    if unclosed:
        ragged[len(lines) - 1] = Problem(None, "quote")
    return (ragged, lines) if lines else None


def _rows(text: io.TextIOWrapper, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of the header and of each row that is not blank.

    Raises
    ------
    UploadError
        There are more rows than may be, or one of more cells than any table has.
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
    found = 0
    while True:
        cells_seen = 0
        line = reader.line_num + 1
        cells = next(reader, None)
        if cells is None:
            return
        if cells:
            found += 1
            if found > ROWS_MAX + 1:
                raise _too_many()
            yield line, cells


def _first_line(opened: OpenedAds) -> bytes:
    return opened.stream.peek(1).split(b"\n", 1)[0]


def _too_many() -> UploadError:
    return UploadError("file.too_many", most=ROWS_MAX)


def _upload_error(error: AdsFileError, path: Path) -> UploadError:
    # Where this machine keeps the upload is nobody's business.
    told = str(error).replace(f"{path.parent}/", "")
    lacking = [name for name in REQUEST_REQUIRED if f" {name}" in told.split("the header")[0]]
    if "lacks" in told and lacking:
        return UploadError("file.lacks", told, columns=", ".join(lacking))
    if "no ads" in told or "is empty" in told:
        return UploadError("file.empty", told)
    return UploadError("file.unreadable", told)
