"""From a model that was judged to the one that serves: fitted again, on all ads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from demand.ads import TARGET
from demand.config import FeatureSettings, TrainingSettings
from demand.features.feature_set import build_features
from demand.intervals import fit_intervals
from demand.predictor import Predictor, parents_of
from demand.ranks import Ranks
from demand.trainer import Epoch, train

# An interval of fewer errors would be mostly luck.
ROWS_MIN = 100


def calibrated(predictor: Predictor, judged: Predictor, held_out: pd.DataFrame) -> Predictor:
    """Return ``predictor`` with intervals calibrated on ads that ``judged`` has not learnt from.

    Parameters
    ----------
    judged
        The model whose errors on ``held_out`` are measured: ``predictor`` itself, or the
        one that it is a refit of, which had fewer ads and so hardly smaller errors.
    held_out
        Typed ads with their target; the more, the closer the coverage is to 80 %. With
        fewer than ``ROWS_MIN`` the model is returned as it is.
    """
    if len(held_out) < ROWS_MIN:
        return predictor
    intervals = fit_intervals(judged.predict(held_out), held_out[TARGET], parents_of(held_out))
    return predictor.with_intervals(intervals)


def ranked(predictor: Predictor, ads: pd.DataFrame) -> Predictor:
    """Return ``predictor`` with the ranks of its answers for ads, by category."""
    return predictor.with_ranks(Ranks.fit(predictor.predict(ads), ads["category_name"].tolist()))


def refit(
    ads: pd.DataFrame,
    epochs: int,
    features: FeatureSettings,
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Predictor:
    """Fit on all ads, for the number of epochs that early stopping chose."""
    built = build_features(ads, None, features, seed)
    return ranked(train(built, settings, seed, on_epoch, epochs=epochs).predictor, ads)


def difference(one: Predictor, other: Predictor, ads: pd.DataFrame) -> float:
    """Return the mean absolute difference of two models' answers."""
    return float(np.mean(np.abs(one.predict(ads) - other.predict(ads))))
