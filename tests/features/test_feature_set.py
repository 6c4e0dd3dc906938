from __future__ import annotations

import numpy as np
import pytest

from demand.ads import TARGET
from demand.features.columns import AdColumns
from demand.features.feature_set import FeatureSet, build_features
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES, tiny_features


def test_arrays_and_settings_are_all_there_is() -> None:
    built = tiny_features()
    arrays = built.to_arrays()
    again = FeatureSet.from_arrays(FEATURES, arrays)
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
    np.testing.assert_array_equal(one.sparse.weights, other.sparse.weights)


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
    np.testing.assert_array_equal(built.training_target, training[TARGET])
    np.testing.assert_array_equal(built.validation_target, validation[TARGET])
    assert len(built.training.dense) == 60
    assert len(built.validation.dense) == 30
