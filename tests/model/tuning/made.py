"""A search whose models are quick, and no better than their dropout says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.config import TrainingConfig
from demand.model.tuning.config import Dimension, SearchSpace, TuningConfig
from demand.model.tuning.study import Predict
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads

ADS = make_ads(240, seed=3)
BEST_DROPOUT = 0.4
BASE = TrainingConfig.model_validate(
    {"training": {"dropout": 0.2, "hidden": [32, 16], "batch_size": 128, "epochs_max": 3}}
)
DROPOUT = {"training.dropout": Dimension(low=0, high=0.8)}


def settings(**values: Any) -> TuningConfig:
    return TuningConfig(**{"base": "base.yaml", "space": DROPOUT, "folds": 3, **values})


def space(dimensions: dict[str, Dimension] = DROPOUT) -> SearchSpace:
    return SearchSpace(BASE, dimensions)


@dataclass
class Fits:
    """Fits at once models that answer with the training mean, off by more the worse the dropout.

    Keeps what it saw, and is interrupted the ``interrupted_at``-th time.
    """

    interrupted_at: int = -1
    training: list[pd.DataFrame] = field(default_factory=list)
    validation: list[pd.DataFrame] = field(default_factory=list)
    configs: list[TrainingConfig] = field(default_factory=list)
    held: list[pd.DataFrame] = field(default_factory=list)

    def __call__(
        self, training: pd.DataFrame, validation: pd.DataFrame, config: TrainingConfig
    ) -> Predict:
        if len(self.configs) == self.interrupted_at:
            self.interrupted_at = -1
            raise KeyboardInterrupt
        self.training.append(training)
        self.validation.append(validation)
        self.configs.append(config)
        answer = float(training[TARGET].mean()) + abs(config.training.dropout - BEST_DROPOUT)

        def predict(ads: pd.DataFrame) -> NDArray[np.float64]:
            self.held.append(ads)
            return np.full(len(ads), answer)

        return predict
