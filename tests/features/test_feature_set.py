from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.features.encoding import AdColumns
from demand.features.feature_set import FeatureSet, build_features
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES, tiny_features


def test_arrays_and_settings_are_all_there_is() -> None:
    built = tiny_features()
    arrays = built.to_arrays()
    again = FeatureSet.from_arrays(built.builder.settings, arrays)
    assert again.builder.settings == built.builder.settings
    assert again.to_arrays().keys() == arrays.keys()
    for name, array in again.to_arrays().items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


def test_a_builder_that_came_back_transforms_the_same() -> None:
    built = tiny_features()
    again = FeatureSet.from_arrays(FEATURES, built.to_arrays())
    ads = AdColumns.from_frame(make_ads(50, seed=4))
    one, other = built.builder.transform(ads), again.builder.transform(ads)
    np.testing.assert_array_equal(one.dense, other.dense)
    np.testing.assert_array_equal(one.sparse.bucket, other.sparse.bucket)
    np.testing.assert_array_equal(one.sparse.weight, other.sparse.weight)


def test_a_part_that_is_lost_is_an_error() -> None:
    arrays = tiny_features().to_arrays()
    del arrays["training.dense"]
    with pytest.raises(KeyError, match=r"training\.dense"):
        FeatureSet.from_arrays(FEATURES, arrays)


def test_the_validation_ads_are_transformed_and_not_learned_from() -> None:
    training = make_ads(200)
    one = build_features(training, make_ads(50, seed=1), FEATURES, seed=1)
    other = build_features(training, make_ads(50, seed=2), FEATURES, seed=1)
    for name, array in one.builder.arrays.items():
        np.testing.assert_array_equal(array, other.builder.arrays[name])


def test_targets_are_those_of_the_ads() -> None:
    training, validation = make_ads(60), make_ads(30, seed=1)
    built = build_features(training, validation, FEATURES, seed=1)
    assert built.validation is not None
    np.testing.assert_array_equal(built.training.target, training[TARGET])
    np.testing.assert_array_equal(built.validation.target, validation[TARGET])
    assert len(built.training.features.dense) == 60
    assert len(built.validation.features.dense) == 30


def test_without_validation_ads_there_is_no_validation_part() -> None:
    training = make_ads(60)
    alone = build_features(training, None, FEATURES, seed=1)
    beside = build_features(training, make_ads(30, seed=1), FEATURES, seed=1)
    again = FeatureSet.from_arrays(FEATURES, alone.to_arrays())
    assert alone.validation is None
    assert again.validation is None
    for name, array in again.to_arrays().items():
        np.testing.assert_array_equal(array, beside.to_arrays()[name])


def test_a_sellers_ads_lie_in_one_fold() -> None:
    training = make_ads(200)
    fold = pd.Series(build_features(training, None, FEATURES, seed=1).fold)
    assert (fold.groupby(training["user_id"].to_numpy()).nunique() == 1).all()
    assert set(fold) <= set(range(FEATURES.statistics_folds))
