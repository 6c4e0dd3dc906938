"""Values of ads as they are quoted in messages and reports: short, and on one line."""

from __future__ import annotations

import datetime
import numbers
import re
import reprlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

QUOTED_MAX = 100
# Of a value that a program sent, quoted as part of a sentence.
_SENT_MAX = 60
# Beyond this many bits, the digits of a whole number tell nothing.
_BITS_MAX = 128
# What begins a formula, also as East Asian editions of spreadsheets write it, and what may
# stand before it: spaces, control characters, quotes, and characters without a width.
_FORMULA = r"[=+\-@\uff1d\uff0b\uff0d\uff20]"
_BEFORE = r"(?:(?![\t\r\n])[\s\x00-\x1f\x7f\u200b-\u200f\u2060\ufeff\"'])*"
# At the beginning of the text, and where an edition with another separator begins a cell.
_CELL = re.compile(rf"\A(?={_BEFORE}(?:[\t\r\n]|{_FORMULA}))|(?<=[;\t\r\n])(?={_BEFORE}{_FORMULA})")


def shorten(text: str) -> str:
    """Return at most 100 characters of ``text`` and how many there were in all."""
    if len(text) <= QUOTED_MAX:
        return text
    return f"{text[:QUOTED_MAX]}… ({len(text):,} characters)"


def quote(value: object) -> str:
    """Return a cell's value as text: empty where missing, days without a time."""
    import pandas as pd

    if isinstance(value, str):
        return shorten(value)
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return ""
    if isinstance(value, datetime.datetime | np.datetime64):
        return f"{pd.Timestamp(value):%Y-%m-%d}"
    return f"{value:.15g}" if isinstance(value, float) else shorten(str(value))


def spreadsheet_safe(text: str) -> str:
    """Return a text for a cell of a CSV file that no spreadsheet takes for a formula.

    An apostrophe is put before what begins like one: ``=``, ``+``, ``-``, ``@``, also in
    full width, a tab or a line break. That holds at the beginning of the text, and after a
    semicolon, a tab or a line break in it, where a spreadsheet that separates by those
    begins another cell, whatever quotes stand around the whole. Different texts stay
    different. Numbers that the program writes are no texts, and are not for this function.

    Examples
    --------
    >>> spreadsheet_safe("=1+1")
    "'=1+1"
    >>> spreadsheet_safe("x;=1+1;A0")
    "x;'=1+1;A0"
    >>> spreadsheet_safe("b912c3c6a6ad")
    'b912c3c6a6ad'
    """
    return _CELL.sub("'", text)


def spreadsheet_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with each text as :func:`spreadsheet_safe` has it; numbers stay numbers."""
    texts = table.select_dtypes("object")
    safe = texts.map(lambda value: spreadsheet_safe(value) if isinstance(value, str) else value)
    return table.assign(**{str(name): safe[name] for name in safe})


def quote_json(value: object) -> str:
    """Return any value that a program sent, in the words of JSON where there are some.

    It is cut to 60 characters, and so is the work: it may be large, or deeply nested.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > _BITS_MAX:
        return f"a whole number of {value.bit_length():,} bits"
    # reprlib looks into containers only so far; of a text it would leave out the middle.
    text = repr(value[:_SENT_MAX]) if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= _SENT_MAX else f"{text[: _SENT_MAX - 3]}..."


def json_kind(value: object) -> str:
    """Return what kind of JSON value this is, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, numbers.Real):
        return "a number"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}
    return names.get(type(value), f"a Python {type(value).__name__}")


def counted(count: int | None, what: str = "ad") -> str:
    """Write a number of things with its noun; the noun alone where it is not known."""
    return f"{what}s" if count is None else f"{count:,} {what}{'' if count == 1 else 's'}"
