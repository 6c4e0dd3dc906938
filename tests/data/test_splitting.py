from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand.config import SplitSettings
from demand.data.splitting import DECISIVE_COLUMNS, STRATA, Split, seller_positions, split_ads
from demand.errors import GateRefusal
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads

BASE = make_ads(300)


def parts_of(ads: pd.DataFrame, split: Split) -> list[pd.DataFrame]:
    return [ads.iloc[rows] for rows in (split.train, split.validation, split.test)]


def ads_of(sellers: list[int]) -> pd.DataFrame:
    ads = BASE.iloc[np.arange(len(sellers)) % len(BASE)].reset_index(drop=True)
    return ads.assign(
        user_id=[f"s{seller}" for seller in sellers],
        item_id=[f"i{row}" for row in range(len(sellers))],
    )


SELLERS = st.lists(st.integers(0, 40), min_size=30, max_size=150)
SETTINGS = st.builds(
    SplitSettings,
    by=st.sampled_from(["seller", "time"]),
    test_share=st.floats(0.05, 0.5),
    validation_share=st.floats(0.05, 0.5),
)


@settings(max_examples=60)
@given(SELLERS, SETTINGS, st.integers(0, 2**32 - 1))
def test_no_seller_lies_on_two_sides_and_no_ad_is_lost(
    sellers: list[int], chosen: SplitSettings, seed: int
) -> None:
    ads = ads_of(sellers)
    try:
        parts = parts_of(ads, split_ads(ads, chosen, seed))
    except GateRefusal:
        return
    names = [set(part["user_id"]) for part in parts]
    assert sum(map(len, names)) == len(set.union(*names)) == len(set(sellers))
    together = sorted(pd.concat(parts)["item_id"])
    assert together == sorted(ads["item_id"])


@pytest.mark.parametrize("by", ["seller", "time"])
def test_duplicates_lie_on_one_side(by: Any) -> None:
    ads = pd.concat([make_ads(200), make_ads(200).assign(item_id="twin")])
    parts = parts_of(ads, split_ads(ads, SplitSettings(by=by), 1))
    keys = [set(zip(part["user_id"], part["title"], part["price"], strict=True)) for part in parts]
    assert not keys[0] & keys[1] | keys[0] & keys[2] | keys[1] & keys[2]


@settings(max_examples=60)
@given(SELLERS, SETTINGS, st.integers(0, 9))
def test_parts_have_their_shares(sellers: list[int], chosen: SplitSettings, seed: int) -> None:
    ads = ads_of(sellers)
    try:
        split = split_ads(ads, chosen, seed)
    except GateRefusal:
        return
    strata = 1 if chosen.by == "time" else len(STRATA) + 1
    slack = strata * ads["user_id"].value_counts().max() / 2 + 1e-6
    test = chosen.test_share * len(ads)
    held_out = test + chosen.validation_share * (len(ads) - test)
    assert abs(len(split.test) - test) <= slack
    assert abs(len(split.test) + len(split.validation) - held_out) <= slack


def test_parts_of_many_ads_have_their_shares_nearly() -> None:
    split = split_ads(make_ads(2000), SplitSettings(), 42)
    assert abs(len(split.test) - 400) <= 10
    assert abs(len(split.validation) - 160) <= 10


@pytest.mark.parametrize("by", ["seller", "time"])
def test_parts_of_very_many_ads_are_bounded(by: Any) -> None:
    bounds = SplitSettings(by=by, test_rows_max=100, validation_rows_max=50)
    split = split_ads(make_ads(2000), bounds, 42)
    assert abs(len(split.test) - 100) <= 10
    assert abs(len(split.validation) - 50) <= 10
    assert sum(map(len, (split.train, split.validation, split.test))) == 2000


def test_each_part_has_its_share_of_hard_ads() -> None:
    ads = make_ads(2000)
    for part in parts_of(ads, split_ads(ads, SplitSettings(), 42)):
        assert part[TARGET].mean() == pytest.approx(ads[TARGET].mean(), abs=0.03)


def test_by_time_the_newest_are_tested() -> None:
    ads = make_ads(600)
    ads["user_id"] = ads["item_id"]
    split = split_ads(ads, SplitSettings(by="time"), 1)
    train, validation, test = (part["activation_date"] for part in parts_of(ads, split))
    assert train.max() <= validation.min() <= validation.max() <= test.min()
    assert train.max() < test.max()


def test_by_time_a_seller_is_as_new_as_its_latest_ad() -> None:
    ads = make_ads(600)
    ads["user_id"] = ads["item_id"]
    oldest, newest = ads["activation_date"].min(), ads["activation_date"].max()
    ads.loc[:1, "user_id"] = "both"
    ads.loc[0, "activation_date"] = oldest
    ads.loc[1, "activation_date"] = newest + pd.Timedelta(days=1)
    assert {0, 1} <= set(split_ads(ads, SplitSettings(by="time"), 1).test)


@pytest.mark.parametrize("by", ["seller", "time"])
def test_the_same_seed_gives_the_same_parts(by: Any) -> None:
    chosen = SplitSettings(by=by)
    one, other = split_ads(BASE, chosen, 5), split_ads(BASE, chosen, 5)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


def test_another_seed_gives_other_parts() -> None:
    one, other = (split_ads(BASE, SplitSettings(), seed).test for seed in (1, 2))
    assert set(one) != set(other)


@pytest.mark.parametrize("by", ["seller", "time"])
def test_parts_are_ascending_positions_whatever_the_index_and_other_columns(by: Any) -> None:
    chosen = SplitSettings(by=by)
    narrow = BASE[list(DECISIVE_COLUMNS)].set_axis(range(1000, 1300))
    one, other = split_ads(BASE, chosen, 1), split_ads(narrow, chosen, 1)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
        assert (np.diff(getattr(one, part)) > 0).all()


@pytest.mark.parametrize("by", ["seller", "time"])
@pytest.mark.parametrize("sellers", [1, 2])
def test_too_few_sellers_are_refused(by: Any, sellers: int) -> None:
    ads = ads_of([row % sellers for row in range(200)])
    with pytest.raises(GateRefusal, match=f"part is empty: the 200 ads are of only {sellers} sell"):
        split_ads(ads, SplitSettings(by=by), 1)


def test_an_interval_of_positions_holds_its_share_of_every_stratum() -> None:
    ads = make_ads(3000, seed=1)
    held = seller_positions(ads, 1) < 0.25
    likely = ads[TARGET].groupby(ads["user_id"]).transform("mean") > STRATA[1]
    for stratum in (likely, ~likely):
        assert held[stratum].mean() == pytest.approx(0.25, abs=0.01)


def test_the_ads_are_left_as_they_were() -> None:
    ads = BASE.copy()
    split_ads(ads, SplitSettings(by="time"), 1)
    pd.testing.assert_frame_equal(ads, BASE)
