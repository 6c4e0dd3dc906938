"""The four forms of a request; what an ad's fields may be is told in tests/test_records.py."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.errors import AdError
from demand.schema.records import frame_from_records
from demand.serving.http.bodies import frame_from_payload

AD = {"title": "Стол письменный", "category_name": "Мебель и интерьер"}


def records(*ads: object) -> dict[str, Any]:
    return {"dataframe_records": list(ads)}


# Letters, marks, numbers, punctuation and symbols of all alphabets.
PRINTABLE = st.characters(categories=["L", "M", "N", "P", "S"])
optional_ads = st.lists(
    st.fixed_dictionaries(
        {
            "title": st.text(PRINTABLE, max_size=20).map(lambda text: "т" + text),
            "category_name": st.just("Книги"),
        },
        optional={
            "price": st.none() | st.integers(0, 10**9) | st.floats(0, 1e9, allow_nan=False),
            "description": st.none()
            | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
            "item_seq_number": st.none() | st.integers(1, 1000),
            "activation_date": st.none()
            | st.dates(datetime.date(1678, 1, 1), datetime.date(2261, 12, 31)).map(str),
        },
    ),
    min_size=1,
    max_size=5,
)


@given(optional_ads)
def test_all_four_forms_give_the_same_frame(ads: list[dict[str, Any]]) -> None:
    names = sorted({name for ad in ads for name in ad})
    columns = {name: [ad.get(name) for ad in ads] for name in names}
    split = {"columns": names, "data": [[ad.get(name) for name in names] for ad in ads]}
    expected = frame_from_records(ads)
    for payload in (
        {"dataframe_records": ads},
        {"instances": ads},
        {"inputs": ads},
        {"inputs": columns},
        {"dataframe_split": split},
    ):
        pd.testing.assert_frame_equal(
            frame_from_payload(json.loads(json.dumps(payload)), 9), expected
        )


def test_inputs_may_be_one_ad() -> None:
    assert frame_from_payload({"inputs": AD | {"price": None}}, 9)["title"].tolist() == [
        AD["title"]
    ]


@pytest.mark.parametrize(
    "payload",
    [
        records(AD, AD | {"price": -1}),
        {"instances": [AD, AD | {"price": -1}]},
        {"inputs": [AD, AD | {"price": -1}]},
        {"inputs": {"title": ["a", "b"], "category_name": ["c", "d"], "price": [None, -1]}},
        {
            "dataframe_split": {
                "columns": ["title", "category_name", "price"],
                "data": [["a", "b", None], ["c", "d", -1]],
            }
        },
    ],
    ids=["records", "instances", "inputs-rows", "inputs-columns", "split"],
)
def test_a_wrong_ad_is_refused_by_field_and_row_in_each_form(payload: dict[str, Any]) -> None:
    with pytest.raises(AdError) as refused:
        frame_from_payload(payload, 9)
    assert str(refused.value) == "ad 1: price must lie between 0 and 1e+12, but it is -1"
    assert (refused.value.field, refused.value.row) == ("price", 1)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ([AD], "must be an object with one of"),
        ("text", "must be an object with one of"),
        ({}, "it has none"),
        (AD, "exactly one of"),
        ({"inputs": [AD], "instances": [AD]}, "exactly one of"),
        ({"inputs": [AD], "params": {"a": 1}}, "'params'"),
        (records(), "there is no ad"),
        (records(5), "ad 0: must be an object, not a number"),
        (records([]), "not a list"),
        ({"dataframe_records": AD}, "as a list, not as an object"),
        ({"dataframe_records": None}, "not as null"),
        ({"instances": "text"}, "a list of ads, or an object of columns"),
        ({"inputs": {}}, "title is missing"),
        ({"inputs": {"title": ["a"], "category_name": "b"}}, "mixes lists and single values"),
        ({"inputs": {"title": ["a"], "category_name": ["b", "c"]}}, "category_name has 2 values"),
        ({"inputs": {"title": [], "category_name": []}}, "there is no ad"),
        ({"inputs": {"title": ["a"], "category_name": ["b"], "x": [1]}}, "'x' is no column"),
        ({"dataframe_split": []}, "must be an object, not a list"),
        ({"dataframe_split": {"columns": ["title"]}}, "the lists columns and data"),
        ({"dataframe_split": {"columns": [1], "data": [[1]]}}, "named by texts"),
        ({"dataframe_split": {"columns": ["title"], "data": [[1, 2]]}}, "a list of 1 values"),
        ({"dataframe_split": {"columns": ["title", "title"], "data": []}}, "twice"),
        ({"dataframe_split": {"columns": [], "data": [], "x": 1}}, "has no 'x'"),
    ],
)
def test_what_is_no_list_of_ads_is_refused(payload: object, words: str) -> None:
    with pytest.raises(AdError) as refused:
        frame_from_payload(payload, 9)
    assert words in str(refused.value)


def test_of_many_strange_keys_only_some_are_named() -> None:
    with pytest.raises(AdError) as refused:
        frame_from_payload({"x" * 1_000 + str(i): 1 for i in range(1_000)}, 9)
    assert len(str(refused.value)) < 500
