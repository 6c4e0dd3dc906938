"""What training needs: ads as arrays, their targets, and the fitted builder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from demand.ads import TARGET
from demand.config import FeatureSettings
from demand.features.builder import FeatureBuilder, Features, seller_folds
from demand.features.columns import AdColumns, Floats
from demand.features.tokens import SparseAds

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Part:
    """Features and targets of n ads.

    Parameters
    ----------
    features
        Their arrays.
    target
        Deal probabilities, shape (n,).
    """

    features: Features
    target: Floats

    def to_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return all arrays under names that begin with ``name``."""
        sparse = self.features.sparse
        return {
            f"{name}.row": sparse.row,
            f"{name}.bucket": sparse.bucket,
            f"{name}.weight": sparse.weight,
            f"{name}.dense": self.features.dense,
            f"{name}.words": self.features.words,
            f"{name}.target": self.target,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> Part:
        """Undo :meth:`to_arrays`."""
        row, bucket, weight, dense, words, target = (
            arrays[f"{name}.{key}"]
            for key in ("row", "bucket", "weight", "dense", "words", "target")
        )
        return cls(Features(SparseAds(len(target), row, bucket, weight), dense, words), target)


@dataclass(frozen=True)
class FeatureSet:
    """The arrays of a training run.

    Parameters
    ----------
    builder
        Fitted on the training part.
    training
        n ads; their target means are out of fold.
    fold
        Fold of each training ad, shape (n,); a seller's ads lie in one.
    validation
        Ads of other sellers; None where all ads are learnt from.
    """

    builder: FeatureBuilder
    training: Part
    fold: NDArray[np.int64]
    validation: Part | None

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
    training_ads: pd.DataFrame,
    validation_ads: pd.DataFrame | None,
    settings: FeatureSettings,
    seed: int,
) -> FeatureSet:
    """Fit the features on the training ads and apply them to the validation ads.

    Parameters
    ----------
    training_ads, validation_ads
        Typed ads with their target, without a common seller; no validation ads where
        the number of epochs is known.
    """
    columns = AdColumns.from_frame(training_ads)
    target = _target(training_ads)
    builder, features = FeatureBuilder.fit(columns, target, settings, seed)
    fold = seller_folds(columns, settings.statistics_folds, seed)
    validation = None
    if validation_ads is not None:
        held = builder.transform(AdColumns.from_frame(validation_ads))
        validation = Part(held, _target(validation_ads))
    return FeatureSet(builder, Part(features, target), fold, validation)


def _target(ads: pd.DataFrame) -> Floats:
    return ads[TARGET].to_numpy(dtype=np.float64)
