from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from demand.features.encoding import NUMBER_COLUMNS, TEXT_COLUMNS, AdColumns, weekdays
from demand.schema.columns import INPUT_COLUMNS
from tests.ads_factory import make_ads

TUESDAY = "2017-03-28"


def same(one: AdColumns, other: AdColumns) -> bool:
    numbers = all(
        np.array_equal(one.number[n], other.number[n], equal_nan=True) for n in NUMBER_COLUMNS
    )
    days = np.array_equal(one.weekday, other.weekday, equal_nan=True)
    return one.rows == other.rows and one.text == other.text and numbers and days


def test_every_input_column_but_the_date_is_a_text_or_a_number() -> None:
    names = {column.name for column in INPUT_COLUMNS}
    assert {*TEXT_COLUMNS, *NUMBER_COLUMNS} == names - {"activation_date"}


def test_a_frame_is_taken_with_its_missing_values() -> None:
    ads = make_ads(200)
    taken = AdColumns.from_frame(ads)
    assert taken.rows == 200
    assert taken.text["title"] == ads["title"].tolist()
    assert [v is None for v in taken.text["param_1"]] == ads["param_1"].isna().tolist()
    np.testing.assert_array_equal(taken.number["price"], ads["price"])
    np.testing.assert_array_equal(taken.weekday, ads["activation_date"].dt.dayofweek)


def test_the_order_of_columns_does_not_matter() -> None:
    ads = make_ads(20)
    assert same(AdColumns.from_frame(ads[ads.columns[::-1]]), AdColumns.from_frame(ads))


def test_the_index_of_the_frame_does_not_matter() -> None:
    ads = make_ads(20)
    shifted = ads.set_index(pd.Index(range(100, 80, -1)))
    assert same(AdColumns.from_frame(shifted), AdColumns.from_frame(ads))


def test_other_columns_are_ignored() -> None:
    ads = make_ads(5)
    assert same(AdColumns.from_frame(ads.assign(colour="red")), AdColumns.from_frame(ads))


def test_absent_columns_count_as_missing() -> None:
    taken = AdColumns.from_frame(pd.DataFrame({"title": ["шкаф", "диван"]}))
    assert taken.text["description"] == [None, None]
    assert np.isnan(taken.number["price"]).all()
    assert np.isnan(taken.weekday).all()
    assert same(AdColumns.from_record({}), AdColumns.from_frame(pd.DataFrame(index=[0])))


@pytest.mark.parametrize("dtype", ["string", "category"])
def test_text_may_come_as_another_dtype(dtype: Any) -> None:
    frame = pd.DataFrame({"title": pd.Series(["шкаф", None], dtype=dtype)})
    assert AdColumns.from_frame(frame).text["title"] == ["шкаф", None]


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "object", "float32"])
def test_numbers_may_come_as_another_dtype(dtype: Any) -> None:
    frame = pd.DataFrame({"price": pd.Series([5, None], dtype=dtype)})
    np.testing.assert_array_equal(AdColumns.from_frame(frame).number["price"], [5.0, np.nan])


NUMBERS = [
    (5, 5.0),
    (-2.5, -2.5),
    (True, 1.0),
    (10**30, 1e30),
    ("1300", 1300.0),
    (math.inf, math.inf),
    (None, math.nan),
    (math.nan, math.nan),
    (10**400, math.nan),
    ("дорого", math.nan),
    ("", math.nan),
    (pd.NA, math.nan),
    ([5], math.nan),
]


@pytest.mark.parametrize(("value", "expected"), NUMBERS)
def test_a_number_is_read_and_what_is_none_is_missing(value: object, expected: float) -> None:
    np.testing.assert_array_equal(AdColumns.from_record({"price": value}).number["price"], expected)


DATES = [
    (TUESDAY, 1.0),
    (f"{TUESDAY} 23:59:59", 1.0),
    (f"{TUESDAY}T00:30:00+10:00", 1.0),
    (datetime.date(2017, 3, 28), 1.0),
    (pd.Timestamp(f"{TUESDAY} 12:00"), 1.0),
    (np.datetime64(TUESDAY), 1.0),
    (None, math.nan),
    (pd.NaT, math.nan),
    (math.nan, math.nan),
    ("28.03.2017", math.nan),
    ("12:30", math.nan),
    ("2017-02-30", math.nan),
    (10**30, math.nan),
    (17, math.nan),
]


@pytest.mark.parametrize(("value", "expected"), DATES)
def test_a_date_gives_its_day_and_what_is_none_is_missing(value: object, expected: float) -> None:
    weekday = AdColumns.from_record({"activation_date": value}).weekday
    np.testing.assert_array_equal(weekday, [expected])


def test_a_text_that_is_none_or_blank_is_missing() -> None:
    values: list[object] = [" шкаф\n", None, math.nan, pd.NA, 5, ["шкаф"], "", " \t\n\xa0"]
    taken = AdColumns.from_frame(pd.DataFrame({"title": pd.Series(values, dtype=object)}))
    assert taken.text["title"] == [" шкаф\n", *[None] * 7]
    singly = [AdColumns.from_record({"title": value}).text["title"] for value in values]
    assert [title for titles in singly for title in titles] == taken.text["title"]


@pytest.mark.parametrize(
    ("name", "cases"), [("price", NUMBERS), ("activation_date", DATES)], ids=["price", "date"]
)
def test_a_frame_of_mixed_values_is_read_like_its_records(
    name: str, cases: list[tuple[object, float]]
) -> None:
    frame = pd.DataFrame({name: pd.Series([value for value, _ in cases], dtype=object)})
    taken = AdColumns.from_frame(frame)
    found = taken.weekday if name == "activation_date" else taken.number[name]
    np.testing.assert_array_equal(found, [expected for _, expected in cases])


def test_a_record_is_read_like_a_frame_of_it() -> None:
    ads = make_ads(100)
    for row, ad in enumerate(ads.to_dict("records")):
        assert same(
            AdColumns.from_record({str(k): v for k, v in ad.items()}),
            AdColumns.from_frame(ads.iloc[row : row + 1]),
        )


def test_spellings_are_understood_as_in_a_file() -> None:
    odd = {"title": "None", "category_name": "Детские\u00a0вещи ", "param_1": "NULL", "city": "\\N"}
    plain = {"title": "None", "category_name": "Детские вещи", "param_1": None, "city": None}
    for taken in (AdColumns.from_frame(pd.DataFrame([odd])), AdColumns.from_record(odd)):
        assert {name: taken.text[name][0] for name in plain} == plain


@pytest.mark.parametrize("unit", ["ns", "s", "D"])
def test_a_day_of_the_week_is_that_of_pandas(unit: str) -> None:
    days = pd.date_range("1678-01-01", "2261-12-31", freq="97h23min")
    dates = days.to_numpy().astype(f"datetime64[{unit}]")
    np.testing.assert_array_equal(weekdays(dates), days.dayofweek)


def test_no_date_has_no_day() -> None:
    assert np.isnan(weekdays(np.array(["NaT"], "datetime64[ns]"))).all()


def test_dates_may_lie_apart_and_be_read_only() -> None:
    dates = np.array(["2017-03-27", "2017-03-28", "2017-03-29"], "datetime64[ns]")
    dates.flags.writeable = False
    assert weekdays(dates[::2]).tolist() == [0.0, 2.0]
