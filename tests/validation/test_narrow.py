from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from demand.schema.columns import COLUMN
from demand.validation.narrow import (
    NOT_A_TEXT,
    PARENT_OF_CATEGORY,
    UNREADABLE,
    length_column,
    narrow_ads,
)
from tests.ads_factory import make_ads

ADS = make_ads(40, seed=3)


def _narrow(ads: pd.DataFrame) -> pd.DataFrame:
    return narrow_ads([ads], np.arange(0))


def test_every_column_of_an_ad_is_there_and_is_missing_where_it_was() -> None:
    narrow = _narrow(ADS)
    assert set(narrow) > set(ADS)
    pd.testing.assert_frame_equal(narrow[list(ADS)].isna(), ADS.isna())


def test_values_that_are_looked_up_compared_or_counted_are_there() -> None:
    narrow = _narrow(ADS)
    for name, column in COLUMN.items():
        if column.category or column.kind != "text" or name == "item_id":
            assert narrow[name].dropna().tolist() == ADS[name].dropna().tolist()


def test_no_long_text_is_there() -> None:
    assert set(_narrow(ADS)["description"].dropna()) == {"given"}


@given(st.lists(st.none() | st.text(max_size=9) | st.integers(), min_size=1, max_size=20))
def test_texts_are_measured(titles: list[str | int | None]) -> None:
    ads = make_ads(len(titles)).assign(title=np.array(titles, dtype=object))
    expected = [
        np.nan if title is None else len(title) if isinstance(title, str) else NOT_A_TEXT
        for title in titles
    ]
    np.testing.assert_array_equal(_narrow(ads)[length_column("title")], expected)


@given(st.lists(st.integers(0, 40), max_size=4))
def test_blocks_are_as_one_frame(cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), 40]
    blocks = [ADS.iloc[a:b] for a, b in itertools.pairwise(borders)]
    pd.testing.assert_frame_equal(narrow_ads(blocks, np.arange(0)), _narrow(ADS))


def test_rows_with_unreadable_cells_are_marked() -> None:
    narrow = narrow_ads([ADS], np.array([3, 7, 7]))
    assert np.flatnonzero(narrow[UNREADABLE].notna()).tolist() == [3, 7]


def test_the_parent_of_an_unknown_category_or_beside_an_unknown_parent_is_missing() -> None:
    ads = ADS.copy()
    ads.loc[0, "category_name"] = "Единороги"
    ads.loc[1, "parent_category_name"] = None
    ads.loc[2, "parent_category_name"] = "Разное"
    parents = _narrow(ads)[PARENT_OF_CATEGORY]
    assert parents.isna().tolist() == [True] * 3 + [False] * 37
    assert parents[3:].tolist() == ads["parent_category_name"][3:].tolist()
