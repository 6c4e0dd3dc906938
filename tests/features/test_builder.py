from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from demand.config import FeatureSettings
from demand.features.builder import FeatureBuilder, Features, seller_folds
from demand.features.encoding import AdColumns
from demand.features.kernels import CLIP, TARGET_GROUPS
from demand.features.training_ads import TrainingAds
from demand.schema.arrays import Floats
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES, tiny_features

ENCODED = slice(-len(TARGET_GROUPS), None)


def fit(
    ads: pd.DataFrame, target: Floats | None = None, seed: int = 1, **settings: Any
) -> tuple[FeatureBuilder, Features]:
    known = TrainingAds(ads if target is None else ads.assign(**{TARGET: target}))
    chosen = FEATURES.model_copy(update=settings)
    fold = seller_folds(known.sellers, chosen.statistics_folds, seed)
    return FeatureBuilder.fit(known, fold, chosen)


def encoding_of(ads: pd.DataFrame, target: Floats) -> Floats:
    """Out-of-fold target means of the training ads, before they are scaled."""
    builder, features = fit(ads, target)
    scaled = features.dense[:, ENCODED].astype(np.float64)
    return scaled * builder.arrays["scale"] + builder.arrays["center"]


def few_sellers(rows: int = 400, sellers: int = 12) -> pd.DataFrame:
    ads = make_ads(rows)
    ads["user_id"] = [f"seller {i % sellers}" for i in range(rows)]
    ads["category_name"] = np.where(np.arange(rows) % 3 == 0, "Велосипеды", "Телефоны")
    ads["parent_category_name"] = "одна"
    return ads


def test_all_ads_of_a_seller_lie_in_one_fold() -> None:
    ads = few_sellers()
    folds = pd.Series(seller_folds(TrainingAds(ads).sellers, 4, seed=1))
    assert (folds.groupby(ads["user_id"].to_numpy()).nunique() == 1).all()


def test_folds_follow_the_seed() -> None:
    sellers = TrainingAds(make_ads(300)).sellers
    np.testing.assert_array_equal(seller_folds(sellers, 4, 1), seller_folds(sellers, 4, 1))
    assert (seller_folds(sellers, 4, 1) != seller_folds(sellers, 4, 2)).any()


def test_folds_are_of_about_equal_size() -> None:
    counts = np.bincount(seller_folds(TrainingAds(make_ads(2000)).sellers, 4, 1))
    assert len(counts) == 4
    assert counts.min() > 400


@pytest.mark.parametrize("seller", ["seller 0", "seller 5", "seller 11"])
def test_a_seller_does_not_see_its_own_outcomes(seller: str) -> None:
    ads = few_sellers()
    own = (ads["user_id"] == seller).to_numpy()
    fold = seller_folds(TrainingAds(ads).sellers, FEATURES.statistics_folds, 1)
    beside = fold != fold[own][0]
    target = ads[TARGET].to_numpy()
    changed = np.where(own, 1.0 - target, target)
    before, after = encoding_of(ads, target), encoding_of(ads, changed)
    np.testing.assert_allclose(after[own], before[own], atol=1e-5)
    # Those of the other folds share the category with it, and learn from it.
    assert (np.abs(after[beside] - before[beside]).max(axis=1) > 1e-4).all()


def test_sellers_that_all_fall_into_one_fold_get_the_mean() -> None:
    ads = few_sellers(sellers=1)
    target = ads[TARGET].to_numpy()
    np.testing.assert_allclose(encoding_of(ads, target), target.mean(), atol=1e-5)


def test_training_features_are_those_of_the_transformation_but_for_the_target_encoding() -> None:
    ads = make_ads(300)
    builder, training = fit(ads)
    again = builder.transform(AdColumns.from_frame(ads))
    block = slice(0, -len(TARGET_GROUPS))
    np.testing.assert_array_equal(training.dense[:, block], again.dense[:, block])
    for name in ("row", "bucket", "weight"):
        np.testing.assert_array_equal(getattr(training.sparse, name), getattr(again.sparse, name))


def test_ads_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    ads = make_ads(50)
    (whole, expected) = fit(ads)
    monkeypatch.setattr("demand.features.encoding.BLOCK", 7)
    (builder, found) = fit(ads)
    assert builder.arrays.keys() == whole.arrays.keys()
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(builder.arrays[name], array)
    np.testing.assert_array_equal(found.dense, expected.dense)
    values = np.random.default_rng(0).normal(size=FEATURES.buckets)
    np.testing.assert_allclose(found.sparse.sums(values), expected.sparse.sums(values), rtol=1e-6)


def test_the_width_is_that_of_the_dense_block() -> None:
    builder, training = fit(make_ads(200))
    assert training.dense.shape == (200, builder.width)
    assert training.dense.dtype == np.float32


def test_the_features_of_an_ad_do_not_depend_on_its_neighbours() -> None:
    ads = make_ads(40, seed=3)
    builder = tiny_features().builder
    together = builder.transform(AdColumns.from_frame(ads)).dense
    for row in range(40):
        alone = builder.transform(AdColumns.from_frame(ads.iloc[row : row + 1])).dense
        np.testing.assert_array_equal(alone[0], together[row])


def test_the_same_ads_and_seed_give_the_same_bits() -> None:
    (one, first), (other, second) = fit(make_ads(200)), fit(make_ads(200))
    assert one.arrays.keys() == other.arrays.keys()
    assert all(one.arrays[name].tobytes() == other.arrays[name].tobytes() for name in one.arrays)
    assert first.dense.tobytes() == second.dense.tobytes()


def test_unknown_values_fall_back_to_the_mean_of_all() -> None:
    ads = make_ads(3, seed=9)
    for name in ("parent_category_name", "category_name", "region", "city", "param_1"):
        ads[name] = "нет такого"
    builder = tiny_features().builder
    dense = builder.transform(AdColumns.from_frame(ads)).dense[:, ENCODED]
    overall = (builder.arrays["overall"] - builder.arrays["center"]) / builder.arrays["scale"]
    for name in ("parent", "category", "param_1", "region", "city"):
        column = TARGET_GROUPS.index(name)
        np.testing.assert_allclose(dense[:, column], overall[column], atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {"price": -5.0},
        {"price": 79e9},
        {"price": 1e300},
        {"price": np.inf},
        {"item_seq_number": -5.0},
        {"item_seq_number": 0.0},
        {"item_seq_number": -np.inf},
        {"item_seq_number": 1e300},
        {"image_top_1": -1.0},
        {"image_top_1": 1e300},
        {"description": ""},
        {"title": "", "category_name": ""},
        {"activation_date": pd.NaT},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("error")
def test_features_are_finite_and_bounded(values: dict[str, Any]) -> None:
    ads = make_ads(3).assign(**values)
    dense = tiny_features().builder.transform(AdColumns.from_frame(ads)).dense
    assert np.isfinite(dense).all()
    assert np.abs(dense).max() <= CLIP


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "column", ["price", "image_top_1", "description", "param_1", "activation_date", "city"]
)
def test_a_column_may_be_missing_throughout(column: str) -> None:
    ads = make_ads(200)
    ads[column] = pd.NaT if column == "activation_date" else None
    builder, training = fit(ads)
    assert np.isfinite(training.dense).all()
    assert np.isfinite(builder.transform(AdColumns.from_frame(make_ads(20))).dense).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_a_constant_target_can_be_learned(target: float) -> None:
    ads = make_ads(100)
    _, training = fit(ads, np.full(100, target))
    assert np.isfinite(training.dense).all()


def test_more_folds_than_sellers_do_no_harm() -> None:
    _, training = fit(few_sellers(60, sellers=3), statistics_folds=50)
    assert np.isfinite(training.dense).all()


def test_the_settings_are_kept() -> None:
    builder, _ = fit(make_ads(50), buckets=64)
    assert builder.settings == FeatureSettings(
        buckets=64, price_bins=4, piecewise_bins=4, statistics_folds=4
    )
