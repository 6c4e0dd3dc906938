"""A file that somebody uploaded, into ads that can be asked about and rows that cannot.

The project's own reader reads it. What would make that reader refuse the whole file, a row
with a field too many or a spreadsheet's semicolons, is set right or set aside before.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demand.ads import INPUT_COLUMNS, REQUEST_REQUIRED
from demand.batch import cleaned, complete
from demand.errors import AdsFileError
from demand.ingestion.reading import LoadedAds, read_ads

ROWS_MAX = 50_000
FILE_MB_MAX = 64
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
        It is no file of ads, lacks a column that every ad needs, or has too many rows.
    """
    ragged: dict[int, Problem] = {}
    lines: list[int] | None = None
    try:
        loaded = _read(path)
    except AdsFileError as error:
        repaired = _repaired(path)
        if repaired is None:
            raise _upload_error(error, path) from error
        text, ragged, lines = repaired
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent) as file:
            file.write(text)
            file.flush()
            try:
                loaded = _read(Path(file.name))
            except AdsFileError as again:
                raise _upload_error(again, Path(file.name)) from again
    if len(loaded.frame) > ROWS_MAX:
        raise UploadError("file.too_many", rows=len(loaded.frame), most=ROWS_MAX)
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


def _repaired(path: Path) -> tuple[str, dict[int, Problem], list[int]] | None:
    """Write a spreadsheet's CSV anew as the reader wants it.

    Returns
    -------
    tuple or None
        The CSV; rows whose fields are not as many as the header's, which are left empty, and the
        line of every row; None where the file is no such table.
    """
    rows = _rows(path)
    if rows is None:
        return None
    header = [name.strip() for name in rows[0][1]]
    if any(name not in header for name in REQUEST_REQUIRED) or len(set(header)) < len(header):
        return None
    ragged: dict[int, Problem] = {}
    lines: list[int] = []
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(header)
    for number, (line, cells) in enumerate(rows[1:]):
        lines.append(line)
        if len(cells) != len(header):
            last = number == len(rows) - 2
            unclosed = last and "\n".join(cells).count("\n") > 0
            fields = f"fields:{len(cells)}:{len(header)}"
            ragged[number] = Problem(None, "quote" if unclosed else fields)
            # A row of empty cells is kept; a single empty cell would be a blank line.
            cells = ["", *[""] * (len(header) - 1)] if len(header) > 1 else [" "]
        writer.writerow(cells)
    if not lines:
        return None
    return written.getvalue(), ragged, lines


def _rows(path: Path) -> list[tuple[int, list[str]]] | None:
    """Return line and cells of each row that is not blank; None where this is no text."""
    raw = path.read_bytes()
    if b"\0" in raw[:4096]:
        return None
    for encoding in _ENCODINGS:
        try:
            text = raw.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        return None
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[tuple[int, list[str]]] = []
    try:
        while True:
            line = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return rows or None
            if cells:
                rows.append((line, cells))
    except csv.Error:
        return None


def _upload_error(error: AdsFileError, path: Path) -> UploadError:
    # Where this machine keeps the upload is nobody's business.
    told = str(error).replace(f"{path.parent}/", "")
    lacking = [name for name in REQUEST_REQUIRED if f" {name}" in told.split("the header")[0]]
    if "lacks" in told and lacking:
        return UploadError("file.lacks", told, columns=", ".join(lacking))
    if "no ads" in told or "is empty" in told:
        return UploadError("file.empty", told)
    return UploadError("file.unreadable", told)


def sample_csv() -> str:
    """Return a small file that can be filled in: a header and two made-up ads."""
    names = [c.name for c in INPUT_COLUMNS if c.name in _SAMPLE[0] or c.name in _SAMPLE[1]]
    written = io.StringIO()
    writer = csv.DictWriter(written, names, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(_SAMPLE)
    return written.getvalue()


_SAMPLE: Sequence[dict[str, str]] = (
    {
        "item_id": "1", "region": "Самарская область", "city": "Самара",
        "parent_category_name": "Хобби и отдых", "category_name": "Велосипеды",
        "param_1": "Горные", "title": "Велосипед горный", "price": "9000",
        "description": "Рама 18 дюймов, колёса 26. Катались два сезона, всё исправно.",
        "user_type": "Private", "image": "1.jpg",
    },
    {
        "item_id": "2", "region": "Самарская область", "city": "Тольятти",
        "parent_category_name": "Личные вещи", "category_name": "Часы и украшения",
        "param_1": "Часы", "title": "Часы наручные", "price": "1500", "description": "",
        "user_type": "Private", "image": "",
    },
)  # fmt: skip
