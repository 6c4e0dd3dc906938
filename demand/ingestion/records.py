"""Raw ads as records or columns of plain values, into the typed frame of a file of ads.

What a text or a date means is asked of :mod:`demand.ingestion.cells`, as for a file, so that an ad
gives the same typed row however it came. Numbers must come as numbers. Unlike in a file,
where flaws are counted and judged, the first flaw is an error.
"""

from __future__ import annotations

import datetime
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from demand.ads import INPUT_COLUMNS, REQUEST_REQUIRED, TARGET, Column, Kind
from demand.errors import AdError
from demand.ingestion.cells import NOT_A_DATE, UNLIKE_A_DATE, missing_values, parse_date, parse_text
from demand.quoting import json_kind, quote_json

if TYPE_CHECKING:
    import pandas as pd

Typed = dict[str, npt.NDArray[Any]]

_NAMES = tuple(column.name for column in INPUT_COLUMNS)
_KNOWN = frozenset(_NAMES)
# Plain types come first: asking whether they are of an abstract class is slow.
_NUMBERS = (float, int, numbers.Real)
_SCALARS = (*_NUMBERS, datetime.date, np.datetime64)
# Characters of an unknown name that are looked at.
_NAME_MAX = 100


def frame_from_records(ads: object) -> pd.DataFrame:
    """Read a list of ads as :func:`typed_records`, into a frame of shape (n, 17).

    Raises
    ------
    AdError
        Names the field and the ad.
    """
    return _framed(typed_records(ads))


def frame_from_columns(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Read columns as :func:`typed_columns`, into a frame of shape (n, 17).

    Raises
    ------
    AdError
        Names the field and the ad.
    """
    return _framed(typed_columns(columns))


def typed_records(ads: object) -> Typed:
    """Read a list of ads, each a mapping that may leave out optional fields.

    Parameters
    ----------
    ads
        A list or tuple of mappings from names of :data:`demand.ads.INPUT_COLUMNS` to
        values as in :func:`typed_columns`. All but
        :data:`demand.ads.REQUEST_REQUIRED` may be left out.

    Returns
    -------
    dict
        As :func:`typed_columns`; n = len(ads) >= 1.

    Raises
    ------
    AdError
        Names the field and the ad; see :func:`typed_columns`.
    """
    if not isinstance(ads, list | tuple):
        raise AdError(f"ads must come as a list, not as {json_kind(ads)}")
    for row, ad in enumerate(ads):
        if not isinstance(ad, Mapping):
            raise AdError(f"must be an object, not {json_kind(ad)}", row=row)
        _check_names(ad, row)
    if not ads:
        raise AdError("there is no ad in the request")
    if len(ads) == 1:  # as most requests; columns that it lacks are not even looked at
        return _typed_columns({name: [value] for name, value in ads[0].items()}, 1)
    return _typed_columns({name: [ad.get(name) for ad in ads] for name in _NAMES}, len(ads))


def typed_columns(columns: Mapping[str, Sequence[Any]]) -> Typed:
    """Read columns of plain values.

    Parameters
    ----------
    columns
        From names of :data:`demand.ads.INPUT_COLUMNS` to n values each. A text is a str;
        a number a real number, NumPy's included, but no bool; a date an ISO 8601 text, a
        ``datetime.date`` or a ``numpy.datetime64``, of which the day counts as it is
        written, whatever the time and zone. None, NaN, NaT, NA, and a text that is empty
        or only white space are missing values.

    Returns
    -------
    dict
        All of :data:`demand.ads.INPUT_COLUMNS` in their order, shape (n,) each. Texts:
        object of str or None; numbers: float64, NaN where missing, no negative zero;
        dates: datetime64[ns], NaT where missing.

    Raises
    ------
    AdError
        Unknown or missing column, a required value that is missing, wrong kind, number
        out of bounds, text too long, with NUL bytes or half surrogate pairs, columns of
        different lengths, or no ad at all.
    """
    _check_names(columns)
    rows = len(columns[REQUEST_REQUIRED[0]])
    if rows == 0:
        raise AdError("there is no ad in the request")
    return _typed_columns(columns, rows)


def _typed_columns(columns: Mapping[str, Sequence[Any]], rows: int) -> Typed:
    typed: Typed = {}
    for column in INPUT_COLUMNS:
        name = column.name
        if name not in columns:
            typed[name] = missing_values(column.kind, rows)
            continue
        values = columns[name]
        if len(values) != rows:
            raise AdError(f"{name} has {len(values)} values, but there are {rows} ads", field=name)
        typed[name] = _typed(column, values)
    return typed


def _framed(typed: Typed) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(typed, copy=False)


def _check_names(named: Mapping[Any, object], row: int | None = None) -> None:
    """Demand the required names and none that is not known."""
    if not named.keys() <= _KNOWN:
        unknown = next(name for name in named if name not in _KNOWN)
        raise AdError(_why_unknown(unknown), field=str(unknown)[:_NAME_MAX], row=row)
    for name in REQUEST_REQUIRED:
        if name not in named:
            raise AdError(f"{name} is missing, but every ad needs it", field=name, row=row)


def _why_unknown(name: object) -> str:
    if name == TARGET:
        hint = "this is what the model answers; leave it out"
    elif near := get_close_matches(str(name)[:_NAME_MAX], _NAMES, n=1):
        hint = f"did you mean {near[0]!r}?"
    else:
        hint = f"known: {', '.join(_NAMES)}"
    return f"{quote_json(name)} is no column of an ad to judge; {hint}"


def _typed(column: Column, values: Sequence[Any]) -> npt.NDArray[Any]:
    """Return one column's values with the dtype of its kind, shape (len(values),)."""
    is_plain = _IS_PLAIN[column.name]
    array = missing_values(column.kind, len(values))
    for row, value in enumerate(values):
        if is_plain(value):
            array[row] = value
        elif value is not None or column.name in REQUEST_REQUIRED:
            read = _read(column, value, row)
            if read is not None:
                array[row] = read
    return array


def _read(column: Column, value: object, row: int) -> Any:
    """Return a value as the type of its column, None where it is missing."""
    name = column.name
    if _is_missing(value):
        if name in REQUEST_REQUIRED:
            lack = "empty" if isinstance(value, str) else "null"
            raise AdError(f"{name} is {lack}, but every ad needs it", field=name, row=row)
        return None
    read, problem = _READERS[column.kind](column, value)
    if problem is not None:
        raise AdError(f"{name} {problem}, but it is {quote_json(value)}", field=name, row=row)
    return read


def _is_missing(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, str):
        return not value or value.isspace()
    # A frame may hold pandas' NA, which is not worth importing pandas for.
    if type(value).__name__ == "NAType":
        return True
    # NaN and NaT alone differ from themselves.
    return isinstance(value, _SCALARS) and bool(value != value)


# Each reader returns a value that is not missing as its type, and None; or the kind's
# missing value, and what is wrong, in words that fit after the field's name.


def _text(column: Column, value: object) -> tuple[str | None, str | None]:
    if not isinstance(value, str):
        return None, "must be a text"
    if column.max_length is not None and len(value) > column.max_length:
        return None, f"must have at most {column.max_length} characters"
    try:
        value.encode()
    except UnicodeEncodeError:
        return None, "must be valid Unicode: half of a surrogate pair is no character"
    text, reason = parse_text(value)
    return text, None if reason is None else f"must have no {reason}"


def _number(column: Column, value: object) -> tuple[float, str | None]:
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        return math.nan, "must be a number"
    try:
        # Adding zero makes the negative zero of JSON the only zero there is.
        number = float(value) + 0.0
    except OverflowError:
        number = math.inf
    low, high = column.minimum, column.maximum
    if not (low is None or number >= low) or not (high is None or number <= high):
        return math.nan, f"must lie between {low:g} and {high:g}"
    if column.kind == "integer" and not number.is_integer():
        return math.nan, "must be a whole number"
    return number, None


def _date(_: Column, value: object) -> tuple[np.datetime64, str | None]:
    if isinstance(value, str):
        text = value
    elif isinstance(value, datetime.date):
        text = value.isoformat()[: len("2017-03-28")]
    elif isinstance(value, np.datetime64):
        text = str(value.astype("datetime64[D]"))
    else:
        return NOT_A_DATE, "must be a date such as 2017-03-28"
    day, reason = parse_date(text)
    if reason is None or reason == UNLIKE_A_DATE:
        return day, reason and "must be a date such as 2017-03-28"
    return day, f"must be a date such as 2017-03-28 ({reason})"


_READERS: dict[Kind, Callable[[Column, object], tuple[Any, str | None]]] = {
    "text": _text,
    "number": _number,
    "integer": _number,
    "date": _date,
}


def _plainness(column: Column) -> Callable[[object], bool]:
    """Return what tells of a value, in a third of its reader's time, that it is kept as it is.

    Nearly all are; of any other value the reader knows what it means.
    """
    if column.kind == "text" and column.max_length is not None:
        return _plain_text(column.max_length)
    if column.minimum is not None and column.maximum is not None:
        return _plain_number(column.minimum, column.maximum, column.kind == "integer")
    return lambda _: False


def _plain_text(longest: int) -> Callable[[object], bool]:
    def is_plain(value: object) -> bool:
        if type(value) is not str or not value or value.isspace() or "\0" in value:
            return False
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return len(value) <= longest

    return is_plain


def _plain_number(low: float, high: float, whole: bool) -> Callable[[object], bool]:
    def is_plain(value: object) -> bool:
        if type(value) is not float and type(value) is not int:
            return False
        # Zero may be the negative one.
        return low <= value <= high and value != 0 and not (whole and value % 1)

    return is_plain


_IS_PLAIN = {column.name: _plainness(column) for column in INPUT_COLUMNS}
