"""The arrays of a training run: features of its ads, as they are learnt from and kept by a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.features.builder import FeatureBuilder, Features, SparseAds, seller_folds
from demand.features.encoding import AdColumns
from demand.features.training_ads import TrainingAds
from demand.schema.arrays import Floats
from demand.schema.columns import TARGET

_PART = ("row", "bucket", "weight", "dense", "target")


@dataclass(frozen=True)
class Part:
    """Features of n ads, and their targets: deal probabilities, shape (n,)."""

    features: Features
    target: Floats

    def to_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return all arrays under names that begin with ``name``."""
        sparse = self.features.sparse
        arrays: tuple[NDArray[Any], ...] = (sparse.row, sparse.bucket, sparse.weight)
        arrays += (self.features.dense, self.target)
        return {f"{name}.{key}": array for key, array in zip(_PART, arrays, strict=True)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> Part:
        """Undo :meth:`to_arrays`."""
        row, bucket, weight, dense, target = (arrays[f"{name}.{key}"] for key in _PART)
        return cls(Features(SparseAds(len(target), row, bucket, weight), dense), target)


@dataclass(frozen=True)
class FeatureSet:
    """The arrays of a training run."""

    builder: FeatureBuilder  # fitted on the training part
    training: Part  # n ads; target means are out of fold, and there are no tokens with crosses
    fold: NDArray[np.int64]  # of each training ad, shape (n,); a seller's ads lie in one
    validation: Part | None  # ads of other sellers; None where all ads are learnt from

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name; with the builder's settings they are all there is."""
        arrays = {f"builder.{name}": array for name, array in self.builder.arrays.items()}
        arrays |= self.training.to_arrays("training") | {"fold": self.fold}
        if self.validation is not None:
            arrays |= self.validation.to_arrays("validation")
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def from_arrays(
        cls, settings: FeatureSettings, arrays: Mapping[str, NDArray[Any]]
    ) -> FeatureSet:
        """Undo :meth:`to_arrays`."""
        prefix = "builder."
        fitted = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        held = "validation.target" in arrays
        return cls(
            FeatureBuilder(settings, fitted),
            Part.from_arrays(arrays, "training"),
            arrays["fold"],
            Part.from_arrays(arrays, "validation") if held else None,
        )


def build_features(
    training_ads: TrainingAds | pd.DataFrame,
    validation_ads: pd.DataFrame | None,
    settings: FeatureSettings,
    seed: int,
) -> FeatureSet:
    """Fit the features on the training ads and apply them to the validation ads.

    Both are typed ads with their target, without a common seller; there are no validation ads
    where the number of epochs is known. Where the settings leave it open, the number of ads
    decides whether there are crosses.
    """
    if not isinstance(training_ads, TrainingAds):
        training_ads = TrainingAds(training_ads)
    if settings.crosses is None:
        crosses = training_ads.rows >= settings.crosses_rows_min
        settings = settings.model_copy(update={"crosses": crosses})
    fold = seller_folds(training_ads.sellers, settings.statistics_folds, seed)
    builder, features = FeatureBuilder.fit(training_ads, fold, settings)
    validation = None
    if validation_ads is not None:
        held = builder.transform(AdColumns.from_frame(validation_ads))
        validation = Part(held, validation_ads[TARGET].to_numpy(dtype=np.float64))
    return FeatureSet(builder, Part(features, training_ads.target), fold, validation)
