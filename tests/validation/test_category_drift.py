from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.validation.validate import compare_shares, total_variation

NAMES = st.sampled_from(["a", "b", "c", "d"])


def test_distance_is_the_share_of_ads_that_would_have_to_change() -> None:
    assert total_variation(pd.Series(["a", "a", "b", "c"]), {"a": 1, "b": 1}) == pytest.approx(0.25)


def test_distance_without_a_common_value_is_one() -> None:
    assert total_variation(pd.Series(["x", "y"]), {"a": 3}) == pytest.approx(1.0)


def test_distance_without_any_value_is_one() -> None:
    assert total_variation(pd.Series([None, None], dtype=object), {"a": 3}) == 1.0


def test_missing_values_are_left_out() -> None:
    assert total_variation(pd.Series(["a", None, "b"]), {"a": 5, "b": 5}) == pytest.approx(0.0)


@given(st.lists(NAMES, min_size=1, max_size=50))
def test_values_have_no_distance_from_themselves(values: list[str]) -> None:
    counts = {value: values.count(value) for value in values}
    assert total_variation(pd.Series(values), counts) == pytest.approx(0.0)


@given(
    st.lists(NAMES, min_size=1, max_size=50),
    st.dictionaries(NAMES, st.integers(1, 1000), min_size=1),
)
def test_distance_lies_between_zero_and_one(values: list[str], expected: dict[str, int]) -> None:
    assert 0.0 <= total_variation(pd.Series(values), expected) <= 1.0 + 1e-12


def test_shares_name_the_furthest_value_first() -> None:
    shares = compare_shares(pd.Series(["a"] * 9 + ["b"]), {"a": 5, "b": 4, "c": 1})
    assert shares.index[0] == "a"
    assert shares.loc["a"].tolist() == pytest.approx([0.9, 0.5])
