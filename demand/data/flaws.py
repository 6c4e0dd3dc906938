"""What is flawed in a file of ads, set right where it can be, and told in a sentence each.

One rule says what becomes of a flaw: a cell that :mod:`demand.schema.columns` does not allow
counts as missing. Where that cell may be missing, the ad is used without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from demand.data.reading import AdsPart
from demand.schema.cells import missing_values
from demand.schema.columns import COLUMN, REQUEST_REQUIRED, TARGET, Column
from demand.schema.error_text import counted, quote

ID = "item_id"
# Of what a warning counts, so many are named.
_NAMED_MAX = 5
NAMES_LENGTH_MAX = 300
# Different values of a field unknown to the model that are counted; there are no more of any
# field that has categories.
_UNKNOWN_MAX = 50_000


class Tally(BaseModel):
    """How many there are of something, and what the first few are called."""

    count: int = 0
    named: list[str] = []

    def add(self, other: Tally) -> None:
        """Count those that come after these."""
        self.count += other.count
        self.named = (self.named + other.named)[:_NAMED_MAX]

    def __str__(self) -> str:
        """Name the first few, and say how many more there are."""
        more = self.count - len(self.named)
        return "; ".join(self.named) + (f"; and {more:,} more" if more else "")


class Findings(BaseModel):
    """What is to be told of some consecutive ads; its size does not grow with them."""

    rows: int = 0
    answered: int = 0
    flawed: int = 0  # ads with any of the cells
    cells: Tally = Tally()
    ignored: str = ""  # names of columns
    headers: Tally = Tally()
    lacking: Tally = Tally()
    nameless: Tally = Tally()
    unknown: dict[str, dict[str, int]] = {}  # number of ads by field and value

    def add(self, other: Findings) -> None:
        """Take in what was found in the ads that come after these."""
        self.rows += other.rows
        self.answered += other.answered
        self.flawed += other.flawed
        self.ignored = self.ignored or other.ignored
        for name in ("cells", "headers", "lacking", "nameless"):
            getattr(self, name).add(getattr(other, name))
        for field, counts in other.unknown.items():
            known = self.unknown.setdefault(field, {})
            for value, count in counts.items():
                if value in known or len(known) < _UNKNOWN_MAX:
                    known[value] = known.get(value, 0) + count

    def warnings(self) -> list[str]:
        """Say in a sentence each what is flawed, how often, and where first."""
        told = []
        if self.cells.count:
            told.append(
                f"{counted(self.cells.count, 'cell')} of {counted(self.flawed, 'ad')} cannot be "
                "read or are out of bounds, and count as missing (of a text, only its NUL bytes): "
                f"{self.cells}"
            )
        if self.ignored:
            told.append(f"ignored columns: {self.ignored}")
        if self.headers.count:
            told.append(f"the header is there again, and left out: {self.headers}")
        if self.lacking.count:
            have = "has" if self.lacking.count == 1 else "have"
            told.append(
                f"{counted(self.lacking.count, 'ad')} without {' or '.join(REQUEST_REQUIRED)} "
                f"{have} an empty {TARGET}: {self.lacking}"
            )
        if self.nameless.count:
            told.append(f"{counted(self.nameless.count, 'ad')} without {ID}: {self.nameless}")
        values = [
            (count, f"{field} {quote(value)!r} ({counted(count, 'ad')})")
            for field, counts in self.unknown.items()
            for value, count in counts.items()
        ]
        if values:
            values.sort(key=lambda value: -value[0])
            named = Tally(count=len(values), named=[name for _, name in values[:_NAMED_MAX]])
            told.append(
                "unknown to the model, whose answers to such ads are those to any of their kind: "
                f"{named}"
            )
        return told


def cleaned(loaded: AdsPart) -> tuple[pd.DataFrame, Findings]:
    """Return the ads as a request may carry them, and the cells that were not so.

    A cell that could not be read is missing already; here a number out of its bounds and
    a text over its length become missing, too, since the model has never learnt from such
    and the APIs refuse them. ``item_id`` is no field of the model and stays as it is.

    The ads have shape and columns of ``loaded.frame``, which is not changed.
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
    flaws.sort(key=lambda flaw: int(flaw[0]))
    named = [
        f"{_place(loaded, row)}, {column} {str(value)[:80]!r}: {reason}"
        for row, column, value, reason in flaws[:_NAMED_MAX]
    ]
    flawed = len({row for row, *_ in flaws})
    return ads, Findings(cells=Tally(count=len(flaws), named=named), flawed=flawed)


def complete(ads: pd.DataFrame, required: Sequence[str] = REQUEST_REQUIRED) -> NDArray[np.bool_]:
    """Say for each ad whether it has all that is required, shape (n,)."""
    return ads[list(required)].notna().all(axis=1).to_numpy(dtype=np.bool_)


def places(loaded: AdsPart, rows: Sequence[int] | NDArray[np.int64]) -> Tally:
    """Count some ads, and name the first few by where they are in the file."""
    return Tally(count=len(rows), named=[_place(loaded, row) for row in rows[:_NAMED_MAX]])


def _place(loaded: AdsPart, row: int) -> str:
    """Return where an ad is: the line where it begins, from 1; of Parquet, its row, from 1."""
    if loaded.lines is None:
        return f"row {loaded.first_row + row + 1}"
    return f"line {loaded.lines[row]}"


def repeated(loaded: AdsPart) -> list[str]:
    """Return a warning that names the rows which say the header again, or none."""
    return Findings(headers=table_flaws(loaded).headers).warnings()


def table_flaws(loaded: AdsPart) -> Findings:
    """Return the columns which an ad does not have, and repeated headers."""
    # repr keeps a name that is empty or has a line break in it legible.
    names = ", ".join(map(repr, loaded.ignored_columns))[:NAMES_LENGTH_MAX]
    headers, where = loaded.repeated_headers, "row" if loaded.lines is None else "line"
    named = [f"{where} {place}" for place in headers[:_NAMED_MAX]]
    return Findings(ignored=names, headers=Tally(count=len(headers), named=named))


def _beyond_schema(column: Column, values: pd.Series[Any]) -> tuple[NDArray[np.bool_], str]:
    """Say which values the schema does not allow, and why; a missing one it does."""
    if column.max_length is not None:
        lengths = np.array([len(text or "") for text in values.tolist()])
        return lengths > column.max_length, f"longer than {column.max_length:,} characters"
    low, high, numbers = column.minimum, column.maximum, values.to_numpy()
    if low is None or high is None:
        return np.zeros(len(values), dtype=np.bool_), ""
    return (numbers < low) | (numbers > high), f"not between {low:g} and {high:g}"
