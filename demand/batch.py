"""The answers to a whole file of ads, as a file: one row an ad, in the file's order.

One rule says what becomes of a flaw: a cell that the schema of :mod:`demand.ads` does not
allow counts as missing. Where that cell may be missing, the ad is answered without it;
an ad without a title or a category has no answer, and keeps its row with an empty one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.ads import COLUMN, REQUEST_REQUIRED, TARGET, Column
from demand.errors import AdsFileError, ModelError, StateError
from demand.ingestion.archives import open_ads
from demand.ingestion.cells import missing_values
from demand.ingestion.reading import LoadedAds, read_ads
from demand.ingestion.tables import open_table
from demand.progress import rows_shown
from demand.quoting import quote
from demand.state import write_aside

ID = "item_id"
# Rows answered and written at once: 16 of the Predictor's own blocks.
ROWS_AT_ONCE = 16 * 2048
# Of what a warning counts, so many are named.
_NAMED_MAX = 5
_NAMES_LENGTH_MAX = 300
# Endings of what is no plain CSV; a program that trusts the name would stumble.
_OTHER_ENDINGS = (".gz", ".zip", ".bz2", ".xz", ".zst", ".parquet", ".xlsx")


class Predicts(Protocol):
    """What a batch needs of a Predictor."""

    def predict(self, ads: pd.DataFrame) -> NDArray[np.float64]:
        """Return the deal probability of each ad, shape (n,)."""


@dataclass(frozen=True)
class Answered:
    """A file of answers that was written.

    Parameters
    ----------
    rows
        Ads in the file, and rows of answers.
    answered
        How many of them have an answer; the others lack a title or a category.
    data_md5
        Of the bytes of the file of ads.
    warnings
        One line each: what is flawed, how often, and where first.
    """

    rows: int
    answered: int
    data_md5: str
    warnings: tuple[str, ...]


def answer_file(
    predictor: Predicts,
    data: Path,
    output: Path,
    *,
    max_file_gb: float = 8.0,
) -> Answered:
    """Write ``item_id,deal_probability`` for each ad of a file, in its order.

    Parameters
    ----------
    predictor
        Answers the ads.
    data
        Ads as csv, csv.gz, zip or parquet. Only ``item_id``, ``title`` and
        ``category_name`` must be there; columns that an ad does not have are ignored, and
        so is a target.
    output
        The CSV file; it is replaced when all is written, never half. Answers have all
        digits, and are empty where an ad has no title or no category.
    max_file_gb
        See :func:`demand.ingestion.reading.read_ads`.

    Raises
    ------
    AdsFileError
        The file cannot be read as ads, a row of it included: nothing is written.
    StateError
        The output cannot be written, or is the file of ads itself.
    ModelError
        The model gave no number for an ad.
    """
    check_paths(data, output, max_file_gb)
    # Opened first: who cannot write there hears it before a long file is read.
    with write_aside(output.resolve()) as aside:
        loaded = read_ads(data, labelled=False, max_file_gb=max_file_gb)
        ads, flaws = cleaned(loaded)
        answerable = complete(ads)
        with (
            aside.open("w", encoding="utf-8", newline="") as file,
            rows_shown("ads answered", len(ads)) as show,
        ):
            for first in range(0, len(ads), ROWS_AT_ONCE):
                block = slice(first, first + ROWS_AT_ONCE)
                answers = _answers(predictor, ads.iloc[block], answerable[block])
                rows = pd.DataFrame({ID: loaded.frame[ID].iloc[block], TARGET: answers})
                rows.to_csv(file, index=False, header=first == 0, lineterminator="\n")
                show(first + len(rows))
    return Answered(
        rows=len(ads),
        answered=int(answerable.sum()),
        data_md5=loaded.md5,
        warnings=(*flaws, *_batch_warnings(loaded, answerable)),
    )


def check_paths(data: Path, output: Path, max_file_gb: float = 8.0) -> None:
    """Refuse what can be known to fail before any ad is read.

    Raises
    ------
    AdsFileError
        The file cannot be opened as ads, or has no column ``item_id``.
    StateError
        The output is a folder, a device, the file of ads itself, or named like something
        else than a CSV file.
    """
    if output.is_dir():
        raise StateError(f"cannot write {output}: it is a folder; name a file in it with --output")
    # Replacing a device such as /dev/null would break it for everybody.
    if output.exists() and not output.is_file():
        raise StateError(f"cannot write {output}: it is no regular file")
    if output.suffix.lower() in _OTHER_ENDINGS:
        raise StateError(
            f"the answers are written as CSV, but {output} ends in {output.suffix}: "
            "give --output a name that ends in .csv"
        )
    max_bytes = int(max_file_gb * 1e9)
    with open_ads(data, max_bytes) as opened:
        header = open_table(opened, max_bytes).header
    if ID not in header:
        raise AdsFileError(
            f"{data} has no column {ID}, without which nobody knows whose answer is whose; "
            f"the header has: {', '.join(header[:20])[:_NAMES_LENGTH_MAX]}"
        )
    if output.exists() and os.path.samefile(data, output):
        raise StateError(f"--output {output} is the file of ads itself: name another file")


def cleaned(loaded: LoadedAds) -> tuple[pd.DataFrame, list[str]]:
    """Return the ads as a request may carry them, and warnings that count what was not so.

    A cell that could not be read is missing already; here a number out of its bounds and
    a text over its length become missing, too, since the model has never learnt from such
    and the APIs refuse them. ``item_id`` is no field of the model and stays as it is.

    Returns
    -------
    ads
        Shape and columns of ``loaded.frame``, which is not changed.
    warnings
        One or none.
    """
    ads = loaded.frame.copy(deep=False)
    unread = loaded.unparsed
    flaws = list(
        zip(unread["row"], unread["column"], unread["value"], unread["reason"], strict=True)
    )
    for name in ads.columns.drop(ID):
        column = COLUMN[str(name)]
        beyond = _beyond_schema(column, ads[name])
        if not beyond.any():
            continue
        reason = _demanded(column)
        flaws += [(r, name, quote(ads[name].iat[r]), reason) for r in np.flatnonzero(beyond)]
        kept = ads[name].to_numpy(copy=True)
        kept[beyond] = missing_values(column.kind, 1)[0]
        ads[name] = kept
    if not flaws:
        return ads, []
    flaws.sort(key=lambda flaw: int(flaw[0]))
    rows = len({row for row, *_ in flaws})
    told = [
        f"{place(loaded, row)}, {column} {str(value)[:80]!r}: {reason}"
        for row, column, value, reason in flaws[:_NAMED_MAX]
    ]
    return ads, [
        f"{counted(len(flaws), 'cell')} of {counted(rows, 'ad')} cannot be read or are out of "
        f"bounds, and count as missing (of a text, only its NUL bytes): {_named(told, len(flaws))}"
    ]


def complete(ads: pd.DataFrame, required: Sequence[str] = REQUEST_REQUIRED) -> NDArray[np.bool_]:
    """Say for each ad whether it has all that is required, shape (n,)."""
    return ads[list(required)].notna().all(axis=1).to_numpy(dtype=np.bool_)


def places(loaded: LoadedAds, rows: Collection[int]) -> str:
    """Name the first few of some ads by where they are in the file."""
    first = list(rows)[:_NAMED_MAX]
    return _named([place(loaded, row) for row in first], len(rows))


def place(loaded: LoadedAds, row: int) -> str:
    """Return where an ad is: the line where it begins, from 1; of Parquet, its row, from 1."""
    return f"row {row + 1}" if loaded.lines is None else f"line {loaded.lines[row]}"


def ignored(loaded: LoadedAds) -> list[str]:
    """Return a warning that names the columns which an ad does not have, or none."""
    if not loaded.ignored_columns:
        return []
    # repr keeps a name that is empty or has a line break in it legible.
    names = ", ".join(map(repr, loaded.ignored_columns))
    return [f"ignored columns: {names[:_NAMES_LENGTH_MAX]}"]


def counted(number: int, word: str) -> str:
    """Return a number with its word, in the plural where that is right."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _answers(
    predictor: Predicts, ads: pd.DataFrame, answerable: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the answers, shape (n,); NaN for ads that cannot be answered."""
    answers = np.full(len(ads), np.nan)
    if answerable.any():
        given = predictor.predict(ads[answerable])
        if not np.isfinite(given).all():
            raise ModelError("the model answered an ad with no number: nothing is written")
        answers[answerable] = given
    return answers


def _beyond_schema(column: Column, values: pd.Series[Any]) -> NDArray[np.bool_]:
    """Say which values the schema does not allow; a missing one it does."""
    beyond = np.zeros(len(values), dtype=np.bool_)
    if column.max_length is not None:
        lengths = values.str.len().to_numpy(dtype=np.float64)
        beyond |= lengths > column.max_length
    if column.minimum is not None:
        beyond |= values.to_numpy() < column.minimum
    if column.maximum is not None:
        beyond |= values.to_numpy() > column.maximum
    return beyond


def _demanded(column: Column) -> str:
    if column.max_length is not None:
        return f"longer than {column.max_length:,} characters"
    return f"not between {column.minimum:g} and {column.maximum:g}"


def _batch_warnings(loaded: LoadedAds, answerable: NDArray[np.bool_]) -> list[str]:
    told = ignored(loaded)
    lacking = np.flatnonzero(~answerable)
    if lacking.size:
        verb = "has" if lacking.size == 1 else "have"
        told.append(
            f"{counted(lacking.size, 'ad')} without {' or '.join(REQUEST_REQUIRED)} {verb} an "
            f"empty {TARGET}: {places(loaded, lacking.tolist())}"
        )
    nameless = np.flatnonzero(loaded.frame[ID].isna().to_numpy())
    if nameless.size:
        told.append(
            f"{counted(nameless.size, 'ad')} without {ID}: {places(loaded, nameless.tolist())}"
        )
    return told


def _named(told: list[str], total: int) -> str:
    return "; ".join(told) + (f"; and {total - len(told):,} more" if total > len(told) else "")
