"""Turn ads into arrays."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
from zenml import log_metadata, step

from demand.config import FeatureSettings
from demand.features import feature_set as core
from demand.features.feature_set import FeatureSet
from steps.common import CACHED, timed
from steps.materializers import FeatureSetMaterializer


@step(cache_policy=CACHED, output_materializers={"feature_set": FeatureSetMaterializer})
def build_features(
    training_ads: pd.DataFrame, validation_ads: pd.DataFrame, settings: FeatureSettings, seed: int
) -> Annotated[FeatureSet, "feature_set"]:
    """Fit the features on the training ads, apply them to the validation ads."""
    with timed():
        built = core.build_features(training_ads, validation_ads, settings, seed)
        log_metadata({"buckets": settings.buckets, "dense_features": built.builder.width})
    return built
