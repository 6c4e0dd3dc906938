"""What training needs: training and validation ads as arrays, and the fitted builder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.ads import TARGET
from demand.config import FeatureSettings
from demand.features.builder import FeatureBuilder, Features
from demand.features.columns import AdColumns, Floats
from demand.features.tokens import SparseRows


@dataclass(frozen=True)
class FeatureSet:
    """Features and targets of the training and the validation part.

    Parameters
    ----------
    builder
        Fitted on the training part.
    training, validation
        Features of n and v ads; those of training are out of fold.
    training_target, validation_target
        Deal probabilities, shapes (n,) and (v,).
    """

    builder: FeatureBuilder
    training: Features
    validation: Features
    training_target: Floats
    validation_target: Floats

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name; with the builder's settings they are all there is."""
        arrays = {f"builder.{name}": array for name, array in self.builder.arrays.items()}
        for part in ("training", "validation"):
            features: Features = getattr(self, part)
            arrays[f"{part}.starts"] = features.sparse.starts
            arrays[f"{part}.buckets"] = features.sparse.buckets
            arrays[f"{part}.weights"] = features.sparse.weights
            arrays[f"{part}.dense"] = features.dense
            arrays[f"{part}.target"] = getattr(self, f"{part}_target")
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def from_arrays(
        cls, settings: FeatureSettings, arrays: Mapping[str, NDArray[Any]]
    ) -> FeatureSet:
        """Undo :meth:`to_arrays`."""
        prefix = "builder."
        fitted = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        def part(name: str) -> Features:
            starts, buckets, weights, dense = (
                arrays[f"{name}.{key}"] for key in ("starts", "buckets", "weights", "dense")
            )
            return Features(SparseRows(starts, buckets, weights), dense)

        return cls(
            FeatureBuilder(settings, fitted),
            part("training"),
            part("validation"),
            arrays["training.target"],
            arrays["validation.target"],
        )


def build_features(
    training_ads: pd.DataFrame, validation_ads: pd.DataFrame, settings: FeatureSettings, seed: int
) -> FeatureSet:
    """Fit the features on the training ads and apply them to the validation ads.

    Parameters
    ----------
    training_ads, validation_ads
        Typed ads with their target, without a common seller.
    """
    target = training_ads[TARGET].to_numpy(dtype=np.float64)
    builder, training = FeatureBuilder.fit(
        AdColumns.from_frame(training_ads), target, settings, seed
    )
    validation = builder.transform(AdColumns.from_frame(validation_ads))
    held_target = validation_ads[TARGET].to_numpy(dtype=np.float64)
    return FeatureSet(builder, training, validation, target, held_target)
