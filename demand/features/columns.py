"""Ads as columns of plain lists and arrays: the form in which features are computed."""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from demand.ads import INPUT_COLUMNS
from demand.features.weekdays import weekdays
from demand.ingestion.cells import NOT_A_DATE, parse_date, parse_number, parse_text

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

TEXT_COLUMNS = tuple(c.name for c in INPUT_COLUMNS if c.kind == "text")
# Ads a pass. It bounds memory, and how long other threads wait for the interpreter: 5 ms.
BLOCK = 256
NUMBER_COLUMNS = tuple(c.name for c in INPUT_COLUMNS if c.kind in ("number", "integer"))


@dataclass(frozen=True)
class AdColumns:
    """The ads of a request, a batch or a file.

    Parameters
    ----------
    rows
        Number of ads, n.
    text
        For each text column a list of n strings; None where missing.
    number
        For each number column an array of shape (n,); NaN where missing.
    weekday
        Day of the week of the activation date, shape (n,), Monday is 0; NaN where missing.
    """

    rows: int
    text: dict[str, list[str | None]]
    number: dict[str, Floats]
    weekday: Floats

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> AdColumns:
        """Take the known columns of ``frame`` in any order; absent ones count as missing."""
        n = len(frame)
        text: dict[str, list[str | None]] = {}
        for name in TEXT_COLUMNS:
            if name in frame.columns:
                text[name] = [_text(value) for value in frame[name].tolist()]
            else:
                text[name] = [None] * n
        number = {
            name: _numbers(frame[name]) if name in frame.columns else np.full(n, np.nan)
            for name in NUMBER_COLUMNS
        }
        weekday = np.full(n, np.nan)
        if "activation_date" in frame.columns:
            weekday = _weekdays(frame["activation_date"])
        return cls(n, text, number, weekday)

    @classmethod
    def from_record(cls, ad: Mapping[str, Any]) -> AdColumns:
        """Take one ad as a mapping; absent keys, None and blank texts count as missing."""
        text = {name: [_text(ad.get(name))] for name in TEXT_COLUMNS}
        number = {name: np.array([_number(ad.get(name))]) for name in NUMBER_COLUMNS}
        return cls(1, text, number, np.array([_weekday(ad.get("activation_date"))]))

    @classmethod
    def from_typed(cls, typed: Mapping[str, NDArray[Any]]) -> AdColumns:
        """Take what :func:`demand.ingestion.records.typed_columns` read."""
        weekday = weekdays(typed["activation_date"])
        text = {name: typed[name].tolist() for name in TEXT_COLUMNS}
        return cls(len(weekday), text, {name: typed[name] for name in NUMBER_COLUMNS}, weekday)

    def part(self, chosen: slice) -> AdColumns:
        """Return some of the ads."""
        text = {name: values[chosen] for name, values in self.text.items()}
        number = {name: values[chosen] for name, values in self.number.items()}
        weekday = self.weekday[chosen]
        return AdColumns(len(weekday), text, number, weekday)

    def blocks(self) -> Iterator[AdColumns]:
        """Yield all ads, some thousands at a time, at least once: this bounds memory."""
        if self.rows <= BLOCK:  # to slice one ad would cost a tenth of its answer
            yield self
            return
        for first in range(0, self.rows, BLOCK):
            yield self.part(slice(first, first + BLOCK))


def _text(value: object) -> str | None:
    """Return a text as a file of ads has it: None for white space alone, and for anything else."""
    return parse_text(value)[0] if isinstance(value, str) else None


def _numbers(column: pd.Series[Any]) -> Floats:
    if column.dtype.kind in "fiu":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array([_number(value) for value in column], dtype=np.float64)


def _number(value: object) -> float:
    """Return a number, or a text that is one, as float64; NaN for anything else."""
    if isinstance(value, str):
        return parse_number(value)[0]
    try:
        return float(value) if isinstance(value, numbers.Real) else np.nan
    except OverflowError:
        return np.nan


def _weekdays(column: pd.Series[Any]) -> Floats:
    if column.dtype.kind == "M":
        return weekdays(column.to_numpy(dtype="datetime64[ns]"))
    return np.array([_weekday(value) for value in column], dtype=np.float64)


def _weekday(value: object) -> float:
    """Return the day of the week of a date or of its ISO text; NaN for anything else.

    Texts are read one by one, as in a file of ads: pandas would read a column of them
    by the form of the first.
    """
    known = isinstance(value, str | datetime.date | np.datetime64)
    return float(weekdays(np.array([parse_date(str(value))[0] if known else NOT_A_DATE]))[0])
