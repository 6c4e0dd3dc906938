"""Batch inference: the answers to a file of ads as a file, one row an ad, in its order.

One rule says what becomes of a flaw: a cell that :mod:`demand.schema.columns` does not allow
counts as missing. Where that cell may be missing, the ad is answered without it;
an ad without a title or a category has no answer, and keeps its row with an empty one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.data.archives import open_ads
from demand.data.reading import LoadedAds, read_ads
from demand.data.tables import Bounds, open_table
from demand.errors import AdsFileError, ModelError, StateError
from demand.progress import rows_shown
from demand.schema.cells import missing_values
from demand.schema.columns import COLUMN, REQUEST_REQUIRED, TARGET, Column
from demand.schema.error_text import counted, quote, spreadsheet_safe
from demand.workspace.workspace import write_aside

if TYPE_CHECKING:
    from demand.features.known_values import KnownValues
    from demand.model.predictor import Predictor

ID = "item_id"
# Rows answered and written at once: 16 of the Predictor's own blocks.
ROWS_AT_ONCE = 16 * 2048
# Of what a warning counts, so many are named.
_NAMED_MAX = 5
_NAMES_LENGTH_MAX = 300
# Endings of what is no plain CSV; a program that trusts the name would stumble.
_OTHER_ENDINGS = (".gz", ".zip", ".bz2", ".xz", ".zst", ".parquet", ".xlsx")


@dataclass(frozen=True)
class Answered:
    """A file of answers that was written.

    Of its ``rows`` ``answered`` have an answer; the others lack a title or a category. Each
    of the ``warnings`` says what is flawed, how often, and where first.
    """

    rows: int
    answered: int
    data_md5: str
    warnings: tuple[str, ...]


def answer_file(
    predictor: Predictor,
    data: Path,
    output: Path,
    *,
    max_file_gb: float = 8.0,
    known: KnownValues | None = None,
) -> Answered:
    """Write ``item_id,deal_probability`` for each ad of a file, in its order.

    Of the ads (csv, csv.gz, zip or parquet) only ``item_id``, ``title`` and ``category_name``
    must be there; columns that an ad does not have are ignored, and so is a target. The CSV file
    is replaced when all is written, never half, and of a link the link itself. Answers have all
    digits, and are empty where an ad has no title or no category. An ``item_id`` that a
    spreadsheet would take for a formula has an apostrophe before it, see
    :func:`demand.schema.error_text.spreadsheet_safe`. Values of fields that the model has not
    learnt from are told in a warning, where it is known which these are.

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
    with write_aside(output) as aside:
        loaded = read_ads(data, labelled=False, max_file_gb=max_file_gb)
        ads, flaws = cleaned(loaded)
        answerable = complete(ads)
        with (
            aside.open("w", encoding="utf-8", newline="") as file,
            rows_shown("ads answered", len(ads)) as show,
        ):
            for first in range(0, len(ads), ROWS_AT_ONCE):
                block = slice(first, first + ROWS_AT_ONCE)
                ids = loaded.frame[ID].iloc[block].map(spreadsheet_safe, na_action="ignore")
                answers = np.full(len(ids), np.nan)
                if (asked := answerable[block]).any():
                    answers[asked] = predictor.predict(ads.iloc[block][asked])
                if not np.isfinite(answers[asked]).all():
                    raise ModelError("the model answered an ad with no number: nothing is written")
                rows = pd.DataFrame({ID: ids, TARGET: answers})
                rows.to_csv(file, index=False, header=first == 0, lineterminator="\n")
                show(first + len(rows))
    warnings = (*flaws, *_batch_warnings(loaded, answerable), *_unknown(ads, known))
    return Answered(len(ads), int(answerable.sum()), loaded.md5, warnings)


def check_paths(data: Path, output: Path, max_file_gb: float = 8.0) -> None:
    """Refuse what can be known to fail before any ad is read.

    AdsFileError: the file cannot be opened as ads, or has no column ``item_id``. StateError: the
    output is a folder, a device, the file of ads itself, or named like something else than CSV.
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
        header = open_table(opened, Bounds(max_bytes)).header
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

    The ads have shape and columns of ``loaded.frame``, which is not changed; of warnings
    there is one or none.
    """
    ads = loaded.frame.copy(deep=False)
    flaws = loaded.unparsed[["row", "column", "value", "reason"]].to_numpy().tolist()
    for name in ads.columns.drop(ID):
        column = COLUMN[str(name)]
        beyond, reason = _beyond_schema(column, ads[name])
        if beyond.any():
            flaws += [[r, name, quote(ads[name].iat[r]), reason] for r in np.flatnonzero(beyond)]
            kept = ads[name].to_numpy(copy=True)
            kept[beyond] = missing_values(column.kind, 1)[0]
            ads[name] = kept
    if not flaws:
        return ads, []
    flaws.sort(key=lambda flaw: int(flaw[0]))
    rows = len({row for row, *_ in flaws})
    told = [
        f"{_place(loaded, row)}, {column} {str(value)[:80]!r}: {reason}"
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
    return _named([_place(loaded, row) for row in list(rows)[:_NAMED_MAX]], len(rows))


def _place(loaded: LoadedAds, row: int) -> str:
    """Return where an ad is: the line where it begins, from 1; of Parquet, its row, from 1."""
    return f"row {row + 1}" if loaded.lines is None else f"line {loaded.lines[row]}"


def ignored(loaded: LoadedAds) -> list[str]:
    """Return warnings that name the columns which an ad does not have, and repeated headers."""
    # repr keeps a name that is empty or has a line break in it legible.
    names = ", ".join(map(repr, loaded.ignored_columns))[:_NAMES_LENGTH_MAX]
    return [*([f"ignored columns: {names}"] if names else []), *repeated(loaded)]


def repeated(loaded: LoadedAds) -> list[str]:
    """Return a warning that names the rows which say the header again, or none."""
    headers = loaded.repeated_headers
    where = "row" if loaded.lines is None else "line"
    named = _named([f"{where} {place}" for place in headers[:_NAMED_MAX]], len(headers))
    return [f"the header is there again, and left out: {named}"] if headers else []


def _beyond_schema(column: Column, values: pd.Series[Any]) -> tuple[NDArray[np.bool_], str]:
    """Say which values the schema does not allow, and why; a missing one it does."""
    if column.max_length is not None:
        lengths = values.str.len().to_numpy(dtype=np.float64)
        return lengths > column.max_length, f"longer than {column.max_length:,} characters"
    low, high, numbers = column.minimum, column.maximum, values.to_numpy()
    if low is None or high is None:
        return np.zeros(len(values), dtype=np.bool_), ""
    return (numbers < low) | (numbers > high), f"not between {low:g} and {high:g}"


def _batch_warnings(loaded: LoadedAds, answerable: NDArray[np.bool_]) -> list[str]:
    told = ignored(loaded)
    if lacking := np.flatnonzero(~answerable).tolist():
        told.append(
            f"{counted(len(lacking), 'ad')} without {' or '.join(REQUEST_REQUIRED)} "
            f"{'has' if len(lacking) == 1 else 'have'} an empty {TARGET}: {places(loaded, lacking)}"
        )
    if nameless := np.flatnonzero(loaded.frame[ID].isna().to_numpy()).tolist():
        told.append(f"{counted(len(nameless), 'ad')} without {ID}: {places(loaded, nameless)}")
    return told


def _unknown(ads: pd.DataFrame, known: KnownValues | None) -> list[str]:
    """Return a warning that names what the model has not learnt from, or none."""
    if known is None:
        return []
    counts = known.counts({field: ads[field].tolist() for field in known.values})
    if not counts:
        return []
    told = [f"{field} {quote(value)!r} ({counted(n, 'ad')})" for field, value, n in counts]
    return [
        "unknown to the model, whose answers to such ads are those to any of their kind: "
        + _named(told[:_NAMED_MAX], len(told))
    ]


def _named(told: list[str], total: int) -> str:
    return "; ".join(told) + (f"; and {total - len(told):,} more" if total > len(told) else "")
