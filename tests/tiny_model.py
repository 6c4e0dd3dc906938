"""A tiny model trained for real, once for all tests that need any."""

from __future__ import annotations

from functools import cache

from demand.config import FeatureSettings, TrainingSettings
from demand.features.feature_set import FeatureSet, build_features
from demand.model.predictor import Predictor
from demand.model.training import Training, train
from tests.ads_factory import make_ads

FEATURES = FeatureSettings(buckets=256, price_bins=4, piecewise_bins=4, statistics_folds=4)
TRAINING = TrainingSettings(hidden=[8, 4], epochs_max=2)


@cache
def tiny_features() -> FeatureSet:
    validation = make_ads(120, seed=1)
    validation["user_id"] = "v" + validation["user_id"]
    return build_features(make_ads(400), validation, FEATURES, seed=1)


@cache
def tiny_training() -> Training:
    return train(tiny_features(), TRAINING, seed=1)


def tiny_predictor() -> Predictor:
    return tiny_training().predictor
