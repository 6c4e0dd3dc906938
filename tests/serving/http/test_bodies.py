"""The formats of a request: an ad is the same in each, and what is wrong with it is named."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demand.errors import AdError, TooLargeError, UnsupportedFormatError
from demand.registry.packaging import records
from demand.schema.columns import INPUT_COLUMNS
from demand.schema.records import frame_from_records
from demand.serving.http import bodies
from demand.serving.http.bodies import CSV, JSON, PARQUET, frame_from_body
from tests.ads_factory import make_ads

ADS = records(make_ads(50, seed=4).drop(columns="deal_probability"))
AD: dict[str, Any] = {"title": "Стол письменный", "category_name": "Мебель и интерьер"}


def as_json(ads: list[dict[str, Any]]) -> bytes:
    return json.dumps({"dataframe_records": ads}, ensure_ascii=False).encode()


def as_csv(ads: list[dict[str, Any]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(dict.fromkeys(name for ad in ads for name in ad)))
    writer.writeheader()
    writer.writerows(ads)
    return buffer.getvalue().encode()


def as_parquet(ads: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    names = dict.fromkeys(name for ad in ads for name in ad)
    pq.write_table(pa.table({name: [ad.get(name) for ad in ads] for name in names}), buffer)
    return buffer.getvalue()


WRITERS = {JSON: as_json, CSV: as_csv, PARQUET: as_parquet}


def read(body: bytes | str, kind: str, ads: int = 50_000, encoding: str = "") -> pd.DataFrame:
    content = body.encode() if isinstance(body, str) else body
    return frame_from_body(content, kind, ads=ads, content_encoding=encoding)


@pytest.mark.parametrize("kind", WRITERS)
def test_an_ad_is_the_same_in_each_format(kind: str) -> None:
    found = read(WRITERS[kind](ADS), kind)
    pd.testing.assert_frame_equal(found, frame_from_records(ADS), check_exact=True)


ODD = [
    AD | {"title": "None"},
    AD | {"title": "NA", "description": "NULL", "param_1": "\\N", "city": "nan"},
    AD | {"category_name": "Мебель\u00a0и  интерьер "},
]


@pytest.mark.parametrize("kind", WRITERS)
def test_spellings_mean_the_same_in_each_format(kind: str) -> None:
    found = read(WRITERS[kind](ODD), kind)
    assert found["title"].tolist() == ["None", "NA", AD["title"]]
    assert found["category_name"].tolist() == [AD["category_name"]] * 3
    assert found[["description", "param_1", "city"]].isna().all(axis=None)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({"price": -1}, "price", "price must lie between 0 and 1e+12, but it is -1"),
        ({"item_seq_number": 1.5}, "item_seq_number", "whole number, but it is"),
        ({"activation_date": "soon"}, "activation_date", "a date"),
        ({"title": "я" * 201}, "title", "at most 200 characters"),
        ({"title": " "}, "title", "every ad needs it"),
        ({"category_name": "\\N"}, "category_name", "every ad needs it"),
    ],
)
def test_a_wrong_ad_is_named_in_each_format(
    kind: str, wrong: dict[str, Any], field: str, words: str
) -> None:
    right = AD | {"price": 1, "item_seq_number": 2, "activation_date": "2017-03-28"}
    with pytest.raises(AdError) as refused:
        read(WRITERS[kind]([right, right, right | wrong]), kind)
    assert (refused.value.field, refused.value.row) == (field, 2)
    assert words in str(refused.value)
    assert not isinstance(refused.value, TooLargeError)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("ad", "words"),
    [
        (AD | {"colour": "red"}, "'colour' is no column of an ad"),
        (AD | {"deal_probability": 0.5}, "this is what the model answers"),
        ({"title": "Стол"}, "category_name is missing"),
    ],
)
def test_wrong_columns_are_named_in_each_format(kind: str, ad: dict[str, Any], words: str) -> None:
    with pytest.raises(AdError, match=words):
        read(WRITERS[kind]([ad]), kind)


@pytest.mark.parametrize("kind", WRITERS)
def test_more_ads_than_allowed_are_refused_in_each_format(kind: str) -> None:
    body = WRITERS[kind](ADS[:11])
    assert len(read(body, kind, ads=11)) == 11
    with pytest.raises(TooLargeError, match=r"11 ads in .*; at most 10"):
        read(body, kind, ads=10)


@pytest.mark.parametrize(
    "payload",
    [
        {"inputs": {"title": ["a"] * 11, "category_name": ["b"] * 11}},
        {"dataframe_split": {"columns": ["title"], "data": [["a"]] * 11}},
        {"instances": [AD] * 11},
    ],
    ids=lambda payload: next(iter(payload)),
)
def test_more_ads_than_allowed_are_refused_in_each_form(payload: dict[str, Any]) -> None:
    with pytest.raises(TooLargeError, match="11 ads in one request; at most 10"):
        read(json.dumps(payload), JSON, ads=10)


def test_a_row_with_a_comma_too_many_is_refused_by_its_place() -> None:
    body = "title,category_name\nСтол,Мебель\nВелосипед,Велосипеды,Квартира,Квартиры\n"
    with pytest.raises(AdError, match=r"ad 1: .*line 3: a row of 4 fields under a header of 2"):
        read(body, CSV)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("title,category_name\na,b\ntitle,category_name\n", CSV, "line 3 says the header again"),
        ("title,category_name\na,b\ncategory_name,title\n", CSV, "line 3: a second header"),
        ("title,category_name,price\na,b,дорого\n", CSV, "ad 0: price: text where a number is"),
        ("title,category_name,price\na,b,1 300\n", CSV, "thousands separator: write 1300.50"),
        ("title,title,category_name\na,b,c\n", CSV, "'title' is the name of more than one"),
        ("title;category_name\na;b\n", CSV, "separated by semicolons"),
        ('title,category_name\n"a,b\n', CSV, "broken quoting"),
        ("title,category_name\n", CSV, "there is no ad"),
        ("", CSV, "the body is empty"),
        ("", PARQUET, "the body is empty"),
        ("", JSON, "not valid JSON"),
        ("title,category_name\n\xff".encode("latin-1"), CSV, "this is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n", CSV, "the body is a binary file"),
        (b"no parquet", PARQUET, "the body is a damaged or truncated Parquet file"),
        (as_parquet([AD])[:-9], PARQUET, "the body is a damaged or truncated Parquet file"),
        (as_parquet([AD | {"price": [1]}]), PARQUET, "column 'price' has the Parquet type list"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_a_reason(
    body: str | bytes, kind: str, words: str
) -> None:
    with pytest.raises(AdError) as refused:
        read(body, kind)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 500
    assert not isinstance(refused.value, TooLargeError)


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        ("text/csv; charset=utf-8", ""),
        ("TEXT/CSV ; CHARSET=UTF-8; header=present", ""),
        ('text/csv;charset="utf-8"', "identity"),
    ],
)
def test_a_content_type_may_have_parameters(kind: str, encoding: str) -> None:
    assert read(as_csv([AD]), kind, encoding=encoding)["title"].tolist() == [AD["title"]]


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "words"),
    [
        (b"a", "text/html", "", "none of the content types application/json, text/csv"),
        (b"a", "", "", "none of the content types"),
        (b"a", "text", "", "none of the content types"),
        (as_csv([AD]), "text/csv; charset=windows-1251", "", "send UTF-8"),
        (as_json([AD]), "application/json; charset=koi8-r", "", "send UTF-8"),
        (as_csv([AD]), "text/csv; header=absent", "", "name the columns"),
        (as_json([AD]), JSON, "gzip", "not compressed"),
        (b"\x1f\x8b\x08", CSV, "", "not compressed"),
        (b"PK\x03\x04", CSV, "", "not compressed"),
    ],
)
def test_another_format_is_refused(body: bytes, kind: str, encoding: str, words: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=words):
        read(body, kind, encoding=encoding)


def test_an_index_of_pandas_is_no_column() -> None:
    buffer = io.BytesIO()
    pd.DataFrame([AD, AD], index=[7, 9]).to_parquet(buffer)
    assert len(read(buffer.getvalue(), PARQUET)) == 2


def test_separators_in_texts_do_not_count() -> None:
    talkative = [AD | {"description": 'раз, два [три] {четыре} \\ " ,' * 500}] * 3
    assert len(read(as_json(talkative), JSON, ads=3)) == 3


def test_an_ad_may_have_all_its_columns_and_as_many_lines_as_letters() -> None:
    full = {c.name: "1" for c in INPUT_COLUMNS if c.kind == "text"} | {
        "price": 1,
        "item_seq_number": 1,
        "image_top_1": 1,
        "activation_date": "2017-03-28",
        "description": "\nа" * 9_999,
    }
    for kind, write in WRITERS.items():
        assert len(read(write([full] * 2), kind, ads=2)) == 2


def test_where_parquet_cannot_be_read_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "find_spec", lambda _: None)  # as in the image, without pyarrow
    with pytest.raises(UnsupportedFormatError, match="not read here: send application/json or"):
        frame_from_body(b"PAR1", PARQUET, ads=5)
