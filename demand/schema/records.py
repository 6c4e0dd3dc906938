"""Raw ads as records or columns of plain values, read by one pydantic model of an ad.

What a text or a date means is asked of :mod:`demand.schema.cells`, as for a file, so that an ad
gives the same typed row however it came. Numbers must come as numbers. Unlike in a file,
where flaws are counted and judged, the first ad with a flaw is an error.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Required

import numpy as np
import numpy.typing as npt
from pydantic import (
    AfterValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from demand.errors import AdError
from demand.schema.cells import (
    UNLIKE_A_DATE,
    is_missing_word,
    missing_values,
    parse_date,
    parser_of,
    typed_array,
)
from demand.schema.columns import COLUMN, INPUT_COLUMNS, REQUEST_REQUIRED, TARGET, Column
from demand.schema.error_text import json_kind, quote_json

if TYPE_CHECKING:
    import pandas as pd

Typed = dict[str, npt.NDArray[Any]]

_NAMES = tuple(column.name for column in INPUT_COLUMNS)
_KNOWN = frozenset(_NAMES)
# Characters of an unknown name that are looked at.
_NAME_MAX = 100
# For the API's documentation.
_ABOUT = {
    "title": "what it is about",
    "category_name": "one of Avito's categories, such as Велосипеды",
    "price": "in roubles",
    "item_seq_number": "the ad's number among its seller's",
    "activation_date": "ISO 8601",
    "user_type": "Private, Company or Shop",
    "image": "anything that is not null says that there is a photo",
    "image_top_1": "Avito's class of the photo",
    "user_id": "not used by the model",
    "item_id": "not used by the model",
}
_A_DATE = "must be a date such as 2017-03-28"


def _text_reader(column: Column) -> Callable[[str], str | None]:
    """Return what reads a text as a file's cell; what is wrong is an error of pydantic."""
    parse, required = parser_of(column), column.name in REQUEST_REQUIRED

    def read(text: str) -> str | None:
        value: str | None
        value, reason = parse(text)
        if reason is not None:
            raise PydanticCustomError("cell", "must have no {reason}", {"reason": reason})
        if value is None and required:
            raise PydanticCustomError("no_value", "stands for no value")
        return value

    # Categories come again and again, titles do not.
    return lru_cache(maxsize=1 << 12)(read) if column.category else read


def _read_date(value: object) -> np.datetime64:
    if isinstance(value, datetime.date):
        value = value.isoformat()[: len("2017-03-28")]
    elif isinstance(value, np.datetime64):
        value = str(value.astype("datetime64[D]"))
    elif not isinstance(value, str):
        raise PydanticCustomError("cell", _A_DATE)
    day, reason = parse_date(value)
    if reason is not None:
        why = "" if reason == UNLIKE_A_DATE else f" ({reason})"
        raise PydanticCustomError("cell", "{a_date}{why}", {"a_date": _A_DATE, "why": why})
    return day


def _field(column: Column) -> Any:
    """Return the type of the model's field."""
    if column.kind == "text":
        limits = Field(max_length=column.max_length)
        kind: Any = Annotated[str, limits, AfterValidator(_text_reader(column))]
    elif column.kind == "date":
        kind = Annotated[Any, PlainValidator(_read_date, json_schema_input_type=datetime.date)]
    else:
        bounds = Field(ge=column.minimum, le=column.maximum, allow_inf_nan=False)
        kind = Annotated[float, bounds]
        if column.kind == "integer":
            kind = Annotated[kind, Field(multiple_of=1, json_schema_extra={"type": "integer"})]
        # The negative zero of JSON becomes the only zero there is.
        kind = Annotated[kind, AfterValidator(lambda number: number + 0.0)]
    about = _ABOUT.get(column.name)
    if column.name in REQUEST_REQUIRED:
        told: dict[str, Any] = {"minLength": 1, "pattern": r"\S"}
        return Required[Annotated[kind, Field(description=about, json_schema_extra=told)]]
    return Annotated[kind | None, Field(description=about)]


# Strict: no text becomes a number, and no truth value one or zero.
_FIELDS = {column.name: _field(column) for column in INPUT_COLUMNS}
Ad: Any = TypedDict("Ad", _FIELDS, total=False)  # type: ignore[misc]
_STRICT = ConfigDict(strict=True, extra="forbid")
AD_MODEL: TypeAdapter[dict[str, Any]] = TypeAdapter(with_config(_STRICT)(Ad))
_ADS: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(Annotated[list[Ad], FailFast()])


def frame_from_records(ads: object) -> pd.DataFrame:
    """Read a list of ads as :func:`typed_records`, into a frame of shape (n, 17)."""
    import pandas as pd

    return pd.DataFrame(typed_records(ads), copy=False)


def frame_from_columns(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Read n ads that come as columns of values as :func:`typed_records` takes: shape (n, 17).

    Raises
    ------
    AdError
        As :func:`typed_records`; or columns differ in length.
    """
    check_names(columns)
    rows = len(columns[REQUEST_REQUIRED[0]])
    for name, values in columns.items():
        if len(values) != rows:
            raise AdError(f"{name} has {len(values)} values, but there are {rows} ads", field=name)
    table = zip(*map(_without_nan, columns.values()), strict=True)
    return frame_from_records([dict(zip(columns, ad, strict=True)) for ad in table])


def typed_records(ads: object) -> Typed:
    """Read a list or tuple of n >= 1 ads, each a mapping that may leave out optional fields.

    A text is a str; a number a real number, NumPy's included, but no bool; a date an ISO 8601
    text, a ``datetime.date`` or a ``numpy.datetime64``, of which the day counts as it is
    written, whatever the time and zone. None, NaN, NaT, NA, a text that is empty or only white
    space, and what :mod:`demand.schema.cells` says are missing values. All but
    :data:`demand.schema.columns.REQUEST_REQUIRED` may be missing or left out.

    Returns all of :data:`demand.schema.columns.INPUT_COLUMNS` in their order, shape (n,) each.
    Texts: object of str or None; numbers: float64, NaN where missing, no negative zero; dates:
    datetime64[ns], NaT where missing.

    Raises
    ------
    AdError
        Names the first ad that is wrong, and its field: unknown or missing, of the wrong kind,
        out of bounds, too long, with NUL bytes or half surrogate pairs. Or there is no ad at all.
    """
    if not isinstance(ads, list | tuple):
        raise AdError(f"ads must come as a list, not as {json_kind(ads)}")
    if not ads:
        raise AdError("there is no ad in the request")
    try:
        read = _ADS.validate_python(list(ads))
    except ValidationError:  # of values that are none of JSON, or wrong ones
        read = [_read_one(ad, row) for row, ad in enumerate(ads)]
    if len(read) == 1:  # as most requests; nothing is done for columns that it lacks
        typed = {column.name: missing_values(column.kind, 1) for column in INPUT_COLUMNS}
        for name, value in read[0].items():
            if value is not None:
                typed[name][0] = value
        return typed
    return {
        column.name: typed_array(column.kind, [ad.get(column.name) for ad in read])
        for column in INPUT_COLUMNS
    }


def _without_nan(values: Sequence[Any]) -> Sequence[Any]:
    """Return what frames hold; of values that cannot be compared each ad is looked at."""
    try:
        return [value if value == value else None for value in values]
    except (TypeError, ValueError):
        return values


def check_names(named: Mapping[Any, object], row: int | None = None) -> None:
    """Demand the required names and none that is not known.

    Raises
    ------
    AdError
        Names the first field that is unknown, or missing.
    """
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


def _read_one(ad: Any, row: int) -> dict[str, Any]:
    """Read an ad of Python's and NumPy's values; what is wrong is told."""
    if not isinstance(ad, Mapping):
        raise AdError(f"must be an object, not {json_kind(ad)}", row=row)
    check_names(ad, row)
    try:
        return AD_MODEL.validate_python({name: _plain(COLUMN[name], ad[name]) for name in ad})
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        name = str(found["loc"][0])
        problem = f"{name} {_problem(found['type'], found['msg'], COLUMN[name], ad[name])}"
        raise AdError(problem, field=name, row=row) from None


def _plain(column: Column, value: Any) -> Any:
    """Return what a value of NumPy or pandas, or a text that stands for none, means in JSON."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        nothing = not value or value.isspace() or is_missing_word(value)
        return None if column.kind != "text" and nothing else value
    # A frame may hold pandas' NA, which is not worth importing pandas for.
    if type(value).__name__ == "NAType":
        return None
    if isinstance(value, numbers.Real | datetime.date | np.datetime64):
        return value if value == value else None  # NaN and NaT alone differ from themselves
    return value


def _problem(kind: str, message: str, column: Column, value: Any) -> str:
    """Say what is wrong with a value, in words that follow its field's name."""
    required = "but every ad needs it"
    blank = isinstance(value, str) and (not value or value.isspace())
    if column.name in REQUEST_REQUIRED and (blank or _plain(column, value) is None):
        return f"is {'empty' if blank else 'null'}, {required}"
    if kind == "no_value":
        return f"is {quote_json(value)}, which stands for no value, {required}"
    if kind == "cell":
        problem = message
    elif column.kind == "text":
        problem = {
            "string_too_long": f"must have at most {column.max_length} characters",
            "string_unicode": "must be valid Unicode: half of a surrogate pair is no character",
        }.get(kind, "must be a text")
    elif kind == "float_type" and json_kind(value) != "a number":
        problem = "must be a number"
    elif column.minimum <= value <= column.maximum:
        problem = "must be a whole number"
    else:
        problem = f"must lie between {column.minimum:g} and {column.maximum:g}"
    return f"{problem}, but it is {quote_json(value)}"
