from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from demand.config import ValidationSettings
from demand.schema.columns import COLUMN_NAMES, COLUMNS
from demand.schema.population import reference
from demand.validation.narrow import length_column, narrow_ads
from demand.validation.suites import (
    FIRST_DAY,
    Session,
    category_drift_expectations,
    drift_column,
    drift_expectations,
    remaining_rows_expectations,
    row_expectations,
    schema_expectations,
    table_expectations,
)
from tests.ads_factory import make_ads

TODAY = datetime.date(2026, 11, 23)


def _kwargs(expectations: list, kind: str, column: str) -> dict:
    """Return the arguments of the one expectation of a kind on a column."""
    (found,) = [
        e.configuration.kwargs
        for e in expectations
        if e.configuration.type == kind and e.configuration.kwargs.get("column") == column
    ]
    return found


def test_every_column_of_the_schema_must_exist() -> None:
    kinds = [
        (e.configuration.type, e.configuration.kwargs["column"]) for e in schema_expectations([])
    ]
    assert kinds == [("expect_column_to_exist", name) for name in COLUMN_NAMES]


def test_only_columns_that_are_there_have_a_type_to_be() -> None:
    typed = [
        e.configuration.kwargs["column"]
        for e in schema_expectations(["price"])
        if e.configuration.type == "expect_column_type_to_be"
    ]
    assert typed == ["price"]


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.required], ids=lambda c: c.name)
def test_required_columns_must_not_be_null(column) -> None:
    _kwargs(row_expectations(TODAY), "expect_column_values_to_not_be_null", column.name)


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.max_length], ids=lambda c: c.name)
def test_texts_are_as_long_as_the_schema_says(column) -> None:
    bounds = [
        (e.configuration.kwargs.get("max_value"), e.configuration.meta["column"])
        for e in row_expectations(TODAY)
        if e.configuration.kwargs.get("column") == length_column(column.name)
    ]
    assert bounds == [(None, column.name), (column.max_length, column.name)]


@pytest.mark.parametrize(
    "column", [c for c in COLUMNS if c.kind in ("number", "integer")], ids=lambda c: c.name
)
def test_numbers_lie_within_the_bounds_of_the_schema(column) -> None:
    kwargs = _kwargs(row_expectations(TODAY), "expect_column_values_to_be_between", column.name)
    assert (kwargs["min_value"], kwargs["max_value"]) == (column.minimum, column.maximum)


def test_dates_lie_between_2007_and_tomorrow() -> None:
    kwargs = _kwargs(
        row_expectations(TODAY), "expect_column_values_to_be_between", "activation_date"
    )
    assert [pd.Timestamp(kwargs[key]) for key in ("min_value", "max_value")] == [
        pd.Timestamp(FIRST_DAY),
        pd.Timestamp("2026-11-24"),
    ]


@pytest.mark.parametrize(
    ("column", "size"),
    [("region", 28), ("parent_category_name", 9), ("category_name", 47), ("user_type", 3)],
)
def test_value_sets_are_those_of_the_reference(column: str, size: int) -> None:
    kwargs = _kwargs(row_expectations(TODAY), "expect_column_values_to_be_in_set", column)
    assert len(kwargs["value_set"]) == size


def test_every_expectation_on_rows_says_which_column_is_wrong_and_why() -> None:
    notes = [{**e.configuration.kwargs, **e.configuration.meta} for e in row_expectations(TODAY)]
    assert all(note["column"] and note["reason"] for note in notes)


def test_columns_that_most_ads_have_must_not_be_empty() -> None:
    columns = {
        e.configuration.kwargs["column"]
        for e in table_expectations()
        if "non_null" in e.configuration.type
    }
    assert columns == set(COLUMN_NAMES) - {"param_3"}


@pytest.mark.parametrize(
    ("rows", "share", "needed"),
    [(8000, 0.05, 7600), (100, 0.07, 93), (1000, 0.0, 1000), (1000, 1.0, 0), (19, 0.05, 19)],
)
def test_as_many_bad_rows_as_the_share_allows_may_be_taken_out(
    rows: int, share: float, needed: int
) -> None:
    expectations = remaining_rows_expectations(rows, ValidationSettings(quarantine_share_max=share))
    assert expectations[0].configuration.kwargs["min_value"] == needed


def test_missing_shares_are_those_of_the_reference_within_the_tolerance() -> None:
    expectations = drift_expectations(ValidationSettings(missing_share_tolerance=0.1))
    kwargs = _kwargs(
        expectations, "expect_column_proportion_of_non_null_values_to_be_between", "param_2"
    )
    expected = 1.0 - reference().missing_share["param_2"]
    assert (kwargs["min_value"], kwargs["max_value"]) == pytest.approx(
        (expected - 0.1, expected + 0.1)
    )


def test_mixes_are_bounded_by_the_configured_tolerance() -> None:
    expectations = category_drift_expectations(ValidationSettings(category_mix_tolerance=0.3))
    assert {
        e.configuration.kwargs["column"]: e.configuration.kwargs["max_value"] for e in expectations
    } == {drift_column(name): 0.3 for name in ("category_name", "region", "user_type")}


def test_made_up_ads_meet_every_expectation_on_rows() -> None:
    ads = narrow_ads([make_ads(300)], np.arange(0))
    outcomes = Session().failures(ads, row_expectations(datetime.date.today()))
    assert outcomes == []
