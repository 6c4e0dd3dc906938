"""How good a config is on the training rows: its error on each of a few folds of sellers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.ads import TARGET
from demand.config import TrainingConfig
from demand.errors import GateRefusal
from demand.metrics import rmse
from demand.splitting import seller_positions


class Model(Protocol):
    """Whatever answers ads."""

    def predict(self, ads: pd.DataFrame) -> NDArray[np.float64]:
        """Return a deal probability for each ad, shape (n,)."""
        ...


# Takes training ads, validation ads to stop early by, and the config.
Fit = Callable[[pd.DataFrame, pd.DataFrame, TrainingConfig], Model]


def fit_model(
    training_ads: pd.DataFrame, validation_ads: pd.DataFrame, config: TrainingConfig
) -> Model:
    """Fit features and network as the training pipeline does.

    Raises
    ------
    ModelError
        The training diverged.
    """
    from demand.features.feature_set import build_features
    from demand.trainer import train

    features = build_features(training_ads, validation_ads, config.features, config.seed)
    return train(features, config.training, config.seed).predictor


def fold_errors(
    ads: pd.DataFrame, config: TrainingConfig, folds: int, seed: int, fit: Fit = fit_model
) -> Iterator[float]:
    """Yield the RMSE on each fold of the model that was fitted on the others, one at a time.

    Training stops early by a validation part of the other folds, so that the held fold
    decides nothing. A seller lies in one fold, and on one side within the others.

    Parameters
    ----------
    ads
        Typed ads with their target, shape (n, 18).
    folds, seed
        The same number and seed make the same folds of the same ads, for every config.
    fit
        How a model comes from training ads, validation ads and a config.

    Raises
    ------
    GateRefusal
        There are too few sellers for so many folds.
    ModelError
        The training diverged.
    """
    fold = (seller_positions(ads, seed) * folds).astype(np.int64)
    for number in range(folds):
        held, others = _divided(ads, fold == number, folds)
        early = seller_positions(others, seed) < config.split.validation_share
        validation, training = _divided(others, early, folds)
        answers = fit(training, validation, config).predict(held)
        yield rmse(held[TARGET], answers)


def _divided(
    ads: pd.DataFrame, first: NDArray[np.bool_], folds: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the marked ads and the others, each with a fresh index and neither empty."""
    if first.all() or not first.any():
        sellers = ads["user_id"].nunique(dropna=False)
        raise GateRefusal(
            "data",
            f"{len(ads)} ads are of only {sellers} sellers, too few for {folds} folds, each "
            "with a validation part; set a lower `folds` in the tuning config",
        )
    return ads[first].reset_index(drop=True), ads[~first].reset_index(drop=True)
