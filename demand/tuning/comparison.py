"""Whether the best trial is better than the base, or was only lucky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from demand.errors import ModelError
from demand.tuning.folds import Fit, fit_model, fold_errors
from demand.tuning.search import Found
from demand.tuning.settings import TuningConfig
from demand.tuning.space import Space


@dataclass(frozen=True)
class Comparison:
    """By how much the best trial's RMSE is below the base's, where neither was chosen.

    Parameters
    ----------
    gain
        Mean over fresh folds of RMSE(base) - RMSE(best): positive where the best is better.
    noise
        What the gain must exceed, so that it is no chance.
    """

    gain: float
    noise: float

    @property
    def better(self) -> bool:
        """Whether the gain is more than noise."""
        return self.gain > self.noise


def compare(
    ads: pd.DataFrame, space: Space, settings: TuningConfig, found: Found, fit: Fit = fit_model
) -> Comparison | None:
    """Measure base and best again, on other folds and from other initial weights.

    The best of many trials owes some of its score to luck with the folds that it was
    chosen on; on fresh ones it has none. Returns None where the base is the best.

    The noise is the one-sided t-bound of ``gate.confidence`` for the mean difference over
    folds, with the variance corrected for training rows that folds have in common
    (Nadeau & Bengio, *Inference for the generalization error*, 2003).

    Raises
    ------
    ModelError
        One of the two cannot be trained there.
    """
    if found.best.number == found.base.number:
        return None
    from scipy.stats import t

    errors = []
    for values in (found.base.values, found.best.values):
        config = space.config(values)
        config = config.model_copy(update={"seed": _next(config.seed)})
        try:
            errors.append(list(fold_errors(ads, config, settings.folds, _next(settings.seed), fit)))
        except ModelError as error:
            raise ModelError(f"cannot compare base and best on fresh folds: {error}") from error
    gains = np.array(errors[0]) - np.array(errors[1])
    k = settings.folds
    deviation = float(np.std(gains, ddof=1)) * np.sqrt(1 / k + 1 / (k - 1))
    quantile = float(t.ppf(space.base.gate.confidence, k - 1))
    return Comparison(float(np.mean(gains)), float(quantile * deviation))


def _next(seed: int) -> int:
    return (seed + 1) % 2**32
