r"""What one cell of a file, or one text or date of a request, means: the parser of both.

Every parser takes the text of a cell and returns its typed value and a reason: None
where the cell is understood (or empty, then the value is the kind's missing value),
and otherwise the reason why not, in words that fit after "row 7, price: ".

One list of spellings of "no value" (:data:`MISSING_WORDS`: NULL, None, NaN, NA, ``\N``, …, in
any case) holds for numbers, dates and texts, in files and in requests, if the whole cell is
one. A title and an ``item_id`` are their writer's own words: of these spellings only ``\N``,
which databases write and nobody else, is no value there, and "None" is a title.

Categories, params and places are looked up in lists, so they are brought to one form: a run
of white space of any kind (no-break, thin, …) is one space, none is left at the ends, and
characters that nobody sees (zero-width, soft hyphens, byte order marks) are gone.
"""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from demand.schema.columns import Column, Kind

NOT_A_DATE = np.datetime64("NaT", "ns")
# The reason of a text that has not even the form of a date.
UNLIKE_A_DATE = "not a date like 2017-03-28"

# How pandas, R, databases and their clients spell "no value"; compared in lower case.
MISSING_WORDS = frozenset(
    {"nan", "na", "n/a", "nat", "null", "none", "\\n", "<na>", "#n/a", "<null>", "(null)", "[null]"}
)
# MySQL and PostgreSQL write this for a missing value of any column.
_DATABASE_NULL = "\\N"
# Soft hyphen; zero-width characters; marks of direction; joiners; byte order mark.
_UNSEEN = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
# What a page writes where a line must not be broken.
_HYPHENS = re.compile("[\u2010\u2011]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9][0-9\s'.]*,[0-9]+")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:[\s'_,][0-9]{3})+(?:\.[0-9]*)?")
_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
# No spelling of "no value" is longer, white space around it included.
_PADDED_MAX = 20
_CATEGORY_LENGTH_MAX = 200
# A double has 17 significant digits; anything this long was never one.
_NUMBER_LENGTH_MAX = 100
# With a time of nanoseconds and a zone it has 35 characters.
_DATE_LENGTH_MAX = 40
# The whole years that datetime64[ns] can hold.
_YEAR_MIN, _YEAR_MAX = 1678, 2261


def is_missing_word(text: str) -> bool:
    """Say whether a text, but for white space around it, is a spelling of "no value"."""
    return len(text) <= _PADDED_MAX and text.strip().lower() in MISSING_WORDS


def parse_text(cell: str) -> tuple[str | None, str | None]:
    """Return the text as written, or None where it is blank or a spelling of "no value".

    NUL characters, which no ad contains and many programs choke on, are removed and
    named in the reason.
    """
    text, reason = parse_verbatim(cell)
    return (None if text is not None and is_missing_word(text) else text), reason


def parse_verbatim(cell: str) -> tuple[str | None, str | None]:
    r"""As :func:`parse_text`, but of the spellings of "no value" only ``\N`` is none."""
    reason = None
    if "\0" in cell:
        cell = cell.replace("\0", "")
        reason = "NUL byte in the text"
    short = len(cell) <= _PADDED_MAX
    missing = cell.strip() in ("", _DATABASE_NULL) if short else cell.isspace()
    return (None if missing else cell), reason


def parse_category(cell: str) -> tuple[str | None, str | None]:
    """As :func:`parse_text`, in the one form that a value of a list has.

    White space is single spaces, composed characters are composed (NFC), no-break hyphens
    are hyphens, and what nobody sees is gone.
    """
    return _category(cell) if len(cell) <= _CATEGORY_LENGTH_MAX else _category.__wrapped__(cell)


# There are some thousands of categories, params and cities; a long text is none of them.
@lru_cache(maxsize=1 << 14)
def _category(cell: str) -> tuple[str | None, str | None]:
    seen = _HYPHENS.sub("-", _UNSEEN.sub("", cell))
    return parse_text(unicodedata.normalize("NFC", " ".join(seen.split())))


def parse_number(cell: str) -> tuple[float, str | None]:
    """Return a finite decimal number as the nearest float64, NaN where missing.

    Written as in ``1300``, ``1300.5`` or ``1.3e3``. Decimal commas and grouped
    thousands are not guessed at: ``1,300`` means two numbers in two countries.
    """
    text = cell.strip()
    if _NUMBER.fullmatch(text) and len(text) <= _NUMBER_LENGTH_MAX:
        value = float(text)
        if math.isinf(value):
            return math.nan, "too large for a 64-bit number"
        if value == 0.0 and text.startswith("-"):
            return math.nan, "negative zero: write 0"
        return value, None
    if not text or is_missing_word(text):
        return math.nan, None
    return math.nan, _why_no_number(text)


def _why_no_number(text: str) -> str:
    if "\0" in text:
        return "NUL byte in the number"
    if len(text) > _NUMBER_LENGTH_MAX:
        return f"{len(text)} characters are no number"
    if text.lower().lstrip("+-") in {"inf", "infinity"}:
        return "infinite"
    if _GROUPED.fullmatch(text):
        return "thousands separator: write 1300.50"
    if _DECIMAL_COMMA.fullmatch(text):
        return "decimal comma: write 1300.50"
    return "text where a number is expected"


def parse_integer(cell: str) -> tuple[float, str | None]:
    """Return a whole number as float64, NaN where missing; ``1008.0`` is whole."""
    value, reason = parse_number(cell)
    whole = math.isnan(value) or value.is_integer()
    return (value, reason) if whole else (math.nan, "not a whole number")


def parse_date(cell: str) -> tuple[np.datetime64, str | None]:
    """Return the calendar day of an ISO 8601 date or time as datetime64[ns].

    A time of day and a time zone may follow and are dropped: the day counts as it
    was written.
    """
    # Many ads share a date; a long text, which is none, is not worth remembering.
    return _day(cell) if len(cell) <= _DATE_LENGTH_MAX else _day.__wrapped__(cell)


@lru_cache(maxsize=1 << 12)
def _day(cell: str) -> tuple[np.datetime64, str | None]:
    text = cell.strip()
    match = _DATE.fullmatch(text)
    if match is None:
        if not text or is_missing_word(text):
            return NOT_A_DATE, None
        return NOT_A_DATE, UNLIKE_A_DATE
    try:
        day = datetime.date.fromisoformat(match[1])
    except ValueError:
        return NOT_A_DATE, "no such day in the calendar"
    if not _YEAR_MIN <= day.year <= _YEAR_MAX:
        return NOT_A_DATE, f"outside the years {_YEAR_MIN} to {_YEAR_MAX}"
    return np.datetime64(day, "ns"), None


Parser = Callable[[str], tuple[Any, str | None]]


def parser_of(column: Column) -> Parser:
    """Return the parser of a column's cells."""
    if column.kind == "text":
        named = parse_verbatim if column.verbatim else parse_text
        return parse_category if column.category else named
    return {"number": parse_number, "integer": parse_integer, "date": parse_date}[column.kind]


DTYPES: dict[Kind, np.dtype[Any]] = {
    "text": np.dtype("object"),
    "number": np.dtype("float64"),
    "integer": np.dtype("float64"),
    "date": np.dtype("datetime64[ns]"),
}

_NO_NUMBER, _NO_DATE = np.array([math.nan]), np.array([NOT_A_DATE])


def missing_values(kind: Kind, rows: int) -> npt.NDArray[Any]:
    """Return an array of shape (rows,) in which every value is missing."""
    if kind == "text":
        return np.empty(rows, dtype=object)  # of None
    return (_NO_DATE if kind == "date" else _NO_NUMBER).repeat(rows)


def typed_array(kind: Kind, values: list[Any]) -> npt.NDArray[Any]:
    """Return parsed values as an array of the kind's dtype, shape (len(values),)."""
    array = np.empty(len(values), dtype=DTYPES[kind])
    array[:] = values
    return array
