from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from demand.schema.error_text import QUOTED_MAX, json_kind, quote, quote_json, shorten


def test_short_texts_stay_as_they_are() -> None:
    assert shorten("ы" * QUOTED_MAX) == "ы" * QUOTED_MAX


def test_long_texts_are_cut_and_say_how_long_they_were() -> None:
    assert shorten("ы" * 5_000) == "ы" * QUOTED_MAX + "… (5,000 characters)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (np.nan, ""),
        (pd.NaT, ""),
        (-4.0, "-4"),
        (1.25, "1.25"),
        (np.inf, "inf"),
        (pd.Timestamp("1999-01-02"), "1999-01-02"),
        ("Шкаф", "Шкаф"),
        (7, "7"),
    ],
)
def test_values_are_quoted_as_a_person_would_write_them(value: object, text: str) -> None:
    assert quote(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-1.5, "-1.5"),
        (2**127, str(2**127)),
        (2**128, "a whole number of 129 bits"),
        ("Шкаф", "'Шкаф'"),
        ("ы" * 58, "'" + "ы" * 58 + "'"),
        ("ы" * 59, "'" + "ы" * 56 + "..."),
        ("ы" * 200, "'" + "ы" * 56 + "..."),
        ("\ud800\n", r"'\ud800\n'"),
        (["x"], "['x']"),
        ({"a": None}, "{'a': None}"),
    ],
)
def test_what_was_sent_is_quoted_short_and_in_the_words_of_json(value: object, text: str) -> None:
    assert quote_json(value) == text


def test_a_number_of_more_digits_than_python_writes_is_quoted_all_the_same() -> None:
    assert quote_json(10**5_000) == "a whole number of 16,610 bits"


def test_what_is_deeply_nested_is_quoted_all_the_same() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert quote_json(nested).startswith("[[[")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (True, "a truth value"),
        (5, "a number"),
        (0.5, "a number"),
        ("5", "a text"),
        ([], "a list"),
        ({}, "an object"),
        (b"", "a Python bytes"),
    ],
)
def test_the_kind_of_what_was_sent_is_named_as_in_json(value: object, kind: str) -> None:
    assert json_kind(value) == kind
