"""Values of ads as they are quoted in messages and reports: short, and on one line."""

from __future__ import annotations

import datetime
import numbers
import reprlib

import numpy as np

QUOTED_MAX = 100
# Of a value that a program sent, quoted as part of a sentence.
_SENT_MAX = 60
# Beyond this many bits, the digits of a whole number tell nothing.
_BITS_MAX = 128


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
