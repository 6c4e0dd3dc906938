"""Facts of the market: the contract of `GET /market`, on made-up, odd and real ads."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand.data.reading import read_ads
from demand.features.category_statistics import ADS_MIN, SEEN_MIN, category_statistics
from demand.schema.columns import TARGET
from demand.workspace.workspace import PROJECT_ROOT
from tests.ads_factory import make_ads

REAL_ADS = PROJECT_ROOT.parent / "shared" / "avito" / "ads.csv"
PARAMS = ["param_1", "param_2", "param_3"]


@pytest.fixture(scope="module")
def ads() -> pd.DataFrame:
    return make_ads(3000, seed=8)


@pytest.fixture(scope="module")
def found(ads: pd.DataFrame) -> dict[str, Any]:
    return category_statistics(ads)


def one_category(rows: int, **columns: Any) -> dict[str, Any]:
    """Return what is told of the only category of ads with some columns replaced."""
    frame = make_ads(rows, seed=3).assign(category_name="Велосипеды", **columns)
    (category,) = category_statistics(frame)["categories"]
    return dict(category)


def nodes(tree: list[dict[str, Any]], path: tuple[str, ...] = ()) -> Iterator[tuple[Any, int]]:
    for node in tree:
        here = (*path, node["value"])
        yield here, node["ads"]
        yield from nodes(node["next"], here)


def size_of(facts: dict[str, Any]) -> int:
    """Return the bytes of the facts as JSON, which must be JSON for everyone."""
    return len(json.dumps(facts, ensure_ascii=False, allow_nan=False).encode())


def check(facts: dict[str, Any], ads: pd.DataFrame) -> None:
    """Demand all that holds for the facts of any ads."""
    size_of(facts)
    assert facts["ads"] == len(ads)
    categories = facts["categories"]
    counted = ads["category_name"].value_counts()
    assert {each["name"]: each["ads"] for each in categories} == counted.to_dict()
    for told in (categories, facts["regions"]):
        counts = [each["ads"] for each in told]
        assert counts == sorted(counts, reverse=True)
    for category in categories:
        own = ads[ads["category_name"] == category["name"]]
        check_tree(category["params"], own, [])
        check_quantiles(category["price"])
        check_quantiles(category["description_letters"])
        assert (category["price"] is None) == (np.isfinite(own["price"]).sum() < ADS_MIN)
        assert category["photo_share"] == pytest.approx(own["image"].notna().mean(), abs=1e-4)
        demanded = category["demanded"]
        assert (demanded is None) == (len(own) // 4 < ADS_MIN)
        if demanded is not None:
            check_quantiles(demanded["price"])
            assert demanded["ads"] == len(own) // 4
            best = own[TARGET].nlargest(demanded["ads"]).mean()
            assert demanded["mean_deal_probability"] == pytest.approx(best, abs=1e-4)
    for region in facts["regions"]:
        own = ads[ads["region"] == region["name"]]
        assert region["ads"] == len(own) >= SEEN_MIN
        seen = own["city"].value_counts()
        expected = {name for name in seen[seen >= SEEN_MIN].index if name.strip()}
        assert set(region["cities"]) == expected
        assert len(region["cities"]) == len(expected)


def check_tree(tree: list[dict[str, Any]], ads: pd.DataFrame, above: list[str]) -> None:
    for node in tree:
        own = ads[ads[PARAMS[len(above)]] == node["value"]]
        assert node["ads"] == len(own) >= SEEN_MIN
        assert node["value"].strip()
        check_tree(node["next"], own, [*above, node["value"]])
    counts = [node["ads"] for node in tree]
    assert counts == sorted(counts, reverse=True)


def check_quantiles(quantiles: dict[str, float] | None) -> None:
    if quantiles is not None:
        assert list(quantiles.values()) == sorted(quantiles.values())


def test_blocks_are_summed_up_as_one_frame() -> None:
    ads = make_ads(500, seed=9)
    assert category_statistics(iter([ads.iloc[:200], ads.iloc[200:]])) == category_statistics(ads)


def test_made_up_ads_are_told_by_the_contract(found: dict[str, Any], ads: pd.DataFrame) -> None:
    assert list(found) == ["format", "ads", "categories", "regions", "user_types"]
    check(found, ads)
    first = found["categories"][0]
    assert list(first) == [
        "parent",
        "name",
        "ads",
        "params",
        "price",
        "description_letters",
        "title_words",
        "photo_share",
        "demanded",
    ]
    assert list(first["price"]) == ["p10", "p25", "p50", "p75", "p90"]
    assert list(first["title_words"]) == ["p25", "p50", "p75"]
    assert sorted(found["user_types"]) == sorted(ads["user_type"].unique())


def test_the_order_of_the_ads_does_not_matter(found: dict[str, Any], ads: pd.DataFrame) -> None:
    assert category_statistics(ads.sample(frac=1.0, random_state=1)) == found


def test_the_ads_are_not_changed(ads: pd.DataFrame) -> None:
    before = ads.copy()
    category_statistics(ads)
    pd.testing.assert_frame_equal(ads, before)


def test_a_parent_is_that_of_most_ads() -> None:
    parents = ["Хобби и отдых"] * 29 + ["Транспорт"]
    assert one_category(30, parent_category_name=parents)["parent"] == "Хобби и отдых"


def test_what_was_seen_twice_is_no_choice() -> None:
    values = ["Горные"] * 3 + ["8 900 123-45-67"] * 2 + [None] * 25
    category = one_category(30, param_1=values, param_2=values, param_3=None)
    assert dict(nodes(category["params"])) == {("Горные",): 3, ("Горные", "Горные"): 3}
    frame = make_ads(30, seed=3).assign(
        city=values, region=["Омск"] * 28 + ["Тула"] * 2, user_type=["Shop"] * 29 + ["Иван"]
    )
    told = category_statistics(frame)
    assert [(each["name"], each["cities"]) for each in told["regions"]] == [("Омск", ["Горные"])]
    assert told["user_types"] == ["Shop"]


def test_a_param_below_a_missing_one_has_no_place() -> None:
    category = one_category(30, param_1=None, param_2="Горные", param_3="26")
    assert category["params"] == []


def test_prices_are_quantiles_of_those_that_are_given() -> None:
    prices = [100.0 * n for n in range(1, 22)] + [np.nan, np.inf]
    told = one_category(23, price=prices)["price"]
    assert told == {"p10": 300, "p25": 600, "p50": 1100, "p75": 1600, "p90": 1900}


def test_ads_without_any_price_have_none() -> None:
    category = one_category(200, price=np.nan)
    assert category["price"] is None
    assert category["demanded"]["price"] is None
    assert category["demanded"]["ads"] == 50


def test_missing_texts_have_no_letters_and_no_words() -> None:
    category = one_category(20, description=None, title=None, image=None)
    assert set(category["description_letters"].values()) == {0}
    assert set(category["title_words"].values()) == {0}
    assert category["photo_share"] == 0.0


def test_the_demanded_quarter_is_the_best_one() -> None:
    target = np.linspace(0.0, 1.0, 80)
    best = target >= target[60]
    category = one_category(
        80,
        **{TARGET: target},
        price=np.where(best, 500.0, 9000.0),
        image=np.where(best, "photo", None),
    )
    demanded = category["demanded"]
    assert demanded["ads"] == 20
    assert demanded["price"] == {"p25": 500, "p50": 500, "p75": 500}
    assert demanded["photo_share"] == 1.0
    assert demanded["mean_deal_probability"] == pytest.approx(target[60:].mean(), abs=1e-4)


def test_no_ads_are_no_market() -> None:
    empty = category_statistics(make_ads(5).head(0))
    assert empty == {"format": 1, "ads": 0, "categories": [], "regions": [], "user_types": []}


# Combining and right-to-left letters, emoji of several code points, newline, blanks. For
# pandas itself a text ends at a null character.
ODD = ["e\u0301", "\u202eабв", "👩‍👩‍👧", "a\nb", "  ", "", "\ufeff", "<script>", '"', "İ"]
LETTERS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=3)
TEXTS = st.one_of(st.none(), st.sampled_from(ODD), LETTERS)
FEW = st.lists(TEXTS, min_size=1, max_size=4)
NUMBERS = st.one_of(st.just(np.nan), st.floats(0.0, 1e12), st.sampled_from([0.0, 1.0, 500.0]))


@settings(max_examples=30)
@given(data=st.data(), rows=st.integers(0, 130))
def test_any_ads_have_a_market(data: st.DataObject, rows: int) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))

    def drawn(values: list[Any]) -> Any:
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return random.choice(column, rows) if rows else []

    texts = {
        name: drawn(data.draw(FEW))
        for name in ("parent_category_name", *PARAMS, "region", "city", "title", "user_type")
    }
    names = [text or "Прочее" for text in data.draw(FEW)]
    frame = make_ads(rows, seed=1).assign(**texts, category_name=drawn(names))
    frame["price"] = np.array(drawn(data.draw(st.lists(NUMBERS, min_size=1))), dtype=np.float64)
    check(category_statistics(frame), frame)


@pytest.fixture(scope="module")
def real() -> pd.DataFrame:
    return read_ads(REAL_ADS).frame


@pytest.mark.skipif(not REAL_ADS.exists(), reason="the real ads are not on this machine")
class TestRealAds:
    def test_their_market_is_told_by_the_contract(self, real: pd.DataFrame) -> None:
        facts = category_statistics(real)
        check(facts, real)
        assert size_of(facts) < 200_000
        parents = dict(zip(real["category_name"], real["parent_category_name"], strict=True))
        assert {each["name"]: each["parent"] for each in facts["categories"]} == parents

    def test_no_choice_is_of_fewer_than_three_ads(self, real: pd.DataFrame) -> None:
        facts = category_statistics(real)
        seen = Counter(real["param_1"].dropna())
        choices = {path[0] for each in facts["categories"] for path, _ in nodes(each["params"])}
        assert choices
        assert all(seen[choice] >= SEEN_MIN for choice in choices)

    def test_a_million_of_them_take_seconds(self, real: pd.DataFrame) -> None:
        million = pd.concat([real] * (1_000_000 // len(real) + 1), ignore_index=True)
        begun = time.process_time()
        facts = category_statistics(million)
        assert time.process_time() - begun < 15.0
        assert size_of(facts) < 200_000
