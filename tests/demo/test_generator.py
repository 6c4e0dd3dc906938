"""The demo ads themselves: typed, consistent, distributed as the real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.demo import generate, noise_floor
from demand.demo.offers import places
from demand.evaluation.metrics import rmse
from demand.schema.columns import COLUMN_NAMES, COLUMNS, TARGET
from demand.schema.population import reference


def test_columns_are_those_of_the_schema(demo_ads: pd.DataFrame) -> None:
    assert tuple(demo_ads.columns) == COLUMN_NAMES


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_a_column_has_its_kind(demo_ads: pd.DataFrame, column) -> None:
    values = demo_ads[column.name]
    if column.kind == "text":
        assert {type(value) for value in values} <= {str, type(None)}
    else:
        assert values.dtype == ("datetime64[ns]" if column.kind == "date" else "float64")


@pytest.mark.parametrize(
    "column", [c for c in COLUMNS if c.kind in ("number", "integer")], ids=lambda c: c.name
)
def test_numbers_are_in_the_range_of_the_schema(demo_ads: pd.DataFrame, column) -> None:
    assert demo_ads[column.name].dropna().between(column.minimum, column.maximum).all()


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.required], ids=lambda c: c.name)
def test_required_columns_have_values(demo_ads: pd.DataFrame, column) -> None:
    assert demo_ads[column.name].notna().all()


def test_item_ids_are_unique_over_chunks(many_ads: pd.DataFrame) -> None:
    assert many_ads["item_id"].is_unique


@pytest.mark.parametrize(("column", "length"), [("item_id", 12), ("user_id", 12), ("image", 64)])
def test_ids_are_hexadecimal(demo_ads: pd.DataFrame, column: str, length: int) -> None:
    assert demo_ads[column].dropna().str.fullmatch(f"[0-9a-f]{{{length}}}").all()


def test_a_category_lies_in_its_parent(demo_ads: pd.DataFrame) -> None:
    parents = demo_ads["category_name"].map(reference().parent_of)
    assert (parents == demo_ads["parent_category_name"]).all()


def test_a_city_lies_in_its_region(demo_ads: pd.DataFrame) -> None:
    known = set(zip(places().region_of_city, places().cities, strict=True))
    assert set(zip(demo_ads["region"], demo_ads["city"], strict=True)) <= known


def test_every_region_has_five_to_twenty_five_cities() -> None:
    counts = pd.Series(places().region_of_city).value_counts()
    assert len(counts) == 28
    assert counts.between(5, 25).all()


def test_titles_have_up_to_fifty_characters(many_ads: pd.DataFrame) -> None:
    assert many_ads["title"].str.len().between(1, 50).all()


@pytest.mark.parametrize("column", ["title", "description"])
def test_no_slot_stays_open(many_ads: pd.DataFrame, column: str) -> None:
    assert not many_ads[column].dropna().str.contains(r"[{}]").any()


def test_image_and_its_class_are_missing_together(demo_ads: pd.DataFrame) -> None:
    assert (demo_ads["image"].isna() == demo_ads["image_top_1"].isna()).all()


def test_a_seller_has_one_type_and_one_city(many_ads: pd.DataFrame) -> None:
    known = many_ads.groupby("user_id")[["user_type", "city", "region"]].nunique()
    assert (known == 1).all(axis=None)


def test_some_sellers_have_many_ads(many_ads: pd.DataFrame) -> None:
    assert many_ads["user_id"].value_counts().iloc[0] >= 20


def test_some_sellers_repeat_a_title(many_ads: pd.DataFrame) -> None:
    assert many_ads.duplicated(["user_id", "title"]).mean() > 0.005


def test_a_sample_has_as_many_sellers_as_a_real_one_of_that_size() -> None:
    assert 7_650 <= generate(8_006, 3)["user_id"].nunique() <= 7_900


@pytest.mark.parametrize(
    ("column", "counts"),
    [
        ("region", reference().regions),
        ("category_name", reference().category_counts),
        ("user_type", reference().user_types),
    ],
)
def test_shares_are_those_of_the_real_ads(
    many_ads: pd.DataFrame, column: str, counts: dict[str, int]
) -> None:
    real = pd.Series(counts) / sum(counts.values())
    demo = many_ads[column].value_counts(normalize=True)
    assert demo.reindex(real.index, fill_value=0.0).sub(real).abs().max() < 0.01


@pytest.mark.parametrize(("column", "share"), reference().missing_share.items())
def test_missing_shares_are_those_of_the_real_ads(
    many_ads: pd.DataFrame, column: str, share: float
) -> None:
    assert many_ads[column].isna().mean() == pytest.approx(share, abs=0.012)


@pytest.mark.parametrize(
    "category", ["Одежда, обувь, аксессуары", "Автомобили", "Квартиры", "Телефоны"]
)
def test_price_quantiles_are_those_of_the_category(many_ads: pd.DataFrame, category: str) -> None:
    real = reference().raw["price_quantiles_by_category"][category]
    prices = many_ads.loc[many_ads["category_name"] == category, "price"].dropna()
    for level, quantile in zip((0.05, 0.25, 0.5, 0.75, 0.95), real, strict=True):
        # Round prices lie on the quantile itself, on both sides of the level.
        assert (prices < quantile).mean() - 0.03 <= level <= (prices <= quantile).mean() + 0.03


def test_mean_and_spread_of_the_target_are_within_three_percent(demo_ads: pd.DataFrame) -> None:
    figures = reference().raw["describe"][TARGET]
    assert demo_ads[TARGET].mean() == pytest.approx(figures["mean"], rel=0.03)
    assert demo_ads[TARGET].std() == pytest.approx(figures["std"], rel=0.03)


def test_as_many_targets_are_zero_as_in_the_real_ads(many_ads: pd.DataFrame) -> None:
    zeros = reference().raw["describe"][TARGET]["zero_share"]
    assert (many_ads[TARGET] == 0.0).mean() == pytest.approx(zeros, abs=0.01)


@pytest.mark.parametrize("level", [0.80323, 0.86521, 0.76786, 0.7376, 1.0])
def test_the_target_piles_up_where_the_real_one_does(many_ads: pd.DataFrame, level: float) -> None:
    counts = reference().raw["target_value_counts"]
    real = counts[str(level)] / sum(reference().raw["target_histogram"].values())
    assert (many_ads[TARGET] == level).mean() == pytest.approx(real, rel=0.35)


@pytest.mark.parametrize(
    ("level", "share"), reference().raw["describe"][TARGET]["share_ge"].items()
)
def test_shares_above_a_level_are_those_of_the_real_target(
    many_ads: pd.DataFrame, level: str, share: float
) -> None:
    assert (many_ads[TARGET] >= float(level)).mean() == pytest.approx(share, abs=0.01)


def test_means_by_category_are_close_to_the_real_ones(many_ads: pd.DataFrame) -> None:
    groups = many_ads.groupby("category_name")[TARGET]
    error = groups.std() / np.sqrt(groups.count())
    real = pd.Series(reference().raw["mean_target_by_category"]).reindex(error.index)
    often = groups.count() >= 500
    assert ((groups.mean() - real).abs() < 0.01 + 3.0 * error)[often].all()


def test_means_by_seller_type_are_close_to_the_real_ones(many_ads: pd.DataFrame) -> None:
    means = many_ads.groupby("user_type")[TARGET].mean()
    real = pd.Series(reference().raw["mean_target_by_user_type"])
    assert means.sub(real).abs().max() < 0.012


def test_the_noise_floor_is_as_far_below_the_mean_predictor_as_published() -> None:
    targets = generate(20_000, 2017)[TARGET].to_numpy()
    constant = rmse(targets, np.full(len(targets), targets.mean()))
    assert constant == pytest.approx(0.260, abs=0.005)
    assert noise_floor(20_000, 2017) == pytest.approx(0.212, abs=0.004)


def test_the_floor_of_some_ads_is_that_of_these_ads(demo_ads: pd.DataFrame) -> None:
    ids = demo_ads["item_id"].tolist()
    halves = [noise_floor(20_000, 2017, part) ** 2 for part in (ids[:10_000], ids[10_000:])]
    assert np.mean(halves) ** 0.5 == pytest.approx(noise_floor(20_000, 2017), rel=1e-9)


def test_the_floor_of_an_ad_of_another_file_is_refused() -> None:
    stranger = generate(1, 99)["item_id"].tolist()
    with pytest.raises(ValueError, match="1 of the 1 item_ids"):
        noise_floor(100, 2017, stranger)


def test_the_floor_of_no_ads_is_refused() -> None:
    with pytest.raises(ValueError, match="item_ids"):
        noise_floor(100, 2017, [])


@pytest.mark.parametrize("column", [name for name in COLUMN_NAMES if name != TARGET])
def test_no_single_column_gives_the_target_away(many_ads: pd.DataFrame, column: str) -> None:
    keys = many_ads[column]
    if keys.dtype == "float64":
        keys = keys.rank(pct=True).mul(50).round()
    keys = pd.Series(pd.factorize(keys.astype(str))[0])  # numbers are grouped sooner than texts
    fold = pd.factorize(many_ads["user_id"])[0] % 5
    predicted = np.empty(len(many_ads))
    for part in range(5):
        train, test = many_ads[fold != part], fold == part
        mean = train[TARGET].mean()
        groups = train[TARGET].groupby(keys[fold != part])
        shrunk = (groups.sum() + 10 * mean) / (groups.count() + 10)
        predicted[test] = keys[test].map(shrunk).fillna(mean)
    assert rmse(many_ads[TARGET], predicted) > 0.24
