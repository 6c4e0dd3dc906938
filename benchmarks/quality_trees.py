"""LightGBM and CatBoost on the same numbers, target statistics and text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from catboost import CatBoost, Pool
from lightgbm import Booster, Dataset
from lightgbm import train as train_lightgbm

from benchmarks.fidelity_models import Floats
from benchmarks.quality_features import CHAIN, AdNumbers, TargetStatistics, TextDigest
from demand.ads import TARGET

CATEGORIES = (*CHAIN, "region", "city", "user_type", "image_top_1")
# Rounds are counted in these steps.
EVERY = 10


@dataclass(frozen=True)
class Settings:
    """What a search chooses between.

    Parameters
    ----------
    parameters
        Of the model.
    rounds
        At most as many in a search; in a fold as many as the search found.
    components
        Of the text's rotation.
    terms
        Of TF-IDF, at most of each kind.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    rounds: int = 600
    components: int = 64
    terms: int = 60_000


def names(ads: pd.DataFrame) -> pd.DataFrame:
    """Return the categories as texts; a missing one is a value of its own."""
    return ads[list(CATEGORIES)].astype(str)


class BoostedPeer(ABC):
    """Boosted trees on numbers, target statistics, text; CatBoost also on the categories.

    Parameters
    ----------
    settings
        Of features and trees.
    seed
        Of the trees.
    """

    DEFAULTS: ClassVar[dict[str, Any]]

    def __init__(self, settings: Settings, seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed

    def fit(self, ads: pd.DataFrame) -> BoostedPeer:
        """Learn from typed ads with their target."""
        self.grow(self.inputs(ads), ads[TARGET])
        return self

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Return a probability an ad, shape (rows,)."""
        return self.answers(self.transform(ads))

    def inputs(self, ads: pd.DataFrame) -> pd.DataFrame:
        """Learn what ads become, and return what these have become, out of fold."""
        self.numbers = AdNumbers().fit(ads)
        self.statistics = TargetStatistics()
        self.digest = TextDigest(self.settings.components, terms=self.settings.terms)
        parts = [self.statistics.fit_transform(ads), self.digest.fit_transform(ads)]
        return self._together(ads, parts)

    def transform(self, ads: pd.DataFrame) -> pd.DataFrame:
        """Return the inputs of new ads."""
        return self._together(ads, [self.statistics.transform(ads), self.digest.transform(ads)])

    def _together(self, ads: pd.DataFrame, parts: list[Floats]) -> pd.DataFrame:
        dense = np.hstack([self.numbers.transform(ads), *parts])
        columns = [f"number_{place}" for place in range(dense.shape[1])]
        return pd.DataFrame(dense, columns=columns).join(names(ads).reset_index(drop=True))

    def staged(self, inputs: pd.DataFrame) -> Iterator[Floats]:
        """Yield the answers after each :data:`EVERY` rounds."""
        for rounds in range(EVERY, self.settings.rounds + 1, EVERY):
            yield self.answers(inputs, rounds)

    @abstractmethod
    def grow(self, inputs: pd.DataFrame, targets: pd.Series) -> None:
        """Grow the trees on inputs."""

    @abstractmethod
    def answers(self, inputs: pd.DataFrame, rounds: int = 0) -> Floats:
        """Answer with the first ``rounds`` rounds, or (0) with all of them."""


class LightGBMPeer(BoostedPeer):
    """LightGBM; cross-entropy, whose answers lie in (0, 1) by themselves."""

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "objective": "cross_entropy",
        "learning_rate": 0.03,
        "num_leaves": 15,
        "min_data_in_leaf": 20,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "feature_fraction": 0.4,
        "lambda_l2": 5.0,
        "extra_trees": True,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }

    def grow(self, inputs: pd.DataFrame, targets: pd.Series) -> None:
        """Grow the trees."""
        parameters = {**self.DEFAULTS, **self.settings.parameters, "seed": self.seed}
        data = Dataset(_table(inputs), targets.to_numpy())
        self.trees_: Booster = train_lightgbm(parameters, data, self.settings.rounds)

    def answers(self, inputs: pd.DataFrame, rounds: int = 0) -> Floats:
        """Answer with the first rounds."""
        answers = self.trees_.predict(_table(inputs), num_iteration=rounds or -1)
        return np.clip(np.asarray(answers, dtype=np.float64), 0.0, 1.0)


def _table(inputs: pd.DataFrame) -> Floats:
    # LightGBM's own categories made it worse: the target statistics say the same, out of fold.
    return inputs.drop(columns=list(CATEGORIES)).to_numpy()


class CatBoostPeer(BoostedPeer):
    """CatBoost, with all categories as its own ordered target statistics."""

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "loss_function": "CrossEntropy",
        "learning_rate": 0.05,
        "depth": 6,
        "l2_leaf_reg": 20.0,
        "rsm": 0.3,
        "max_ctr_complexity": 1,
        "thread_count": 1,
        "allow_writing_files": False,
        "verbose": 0,
    }

    def grow(self, inputs: pd.DataFrame, targets: pd.Series) -> None:
        """Grow the trees."""
        parameters = {**self.DEFAULTS, **self.settings.parameters, "random_seed": self.seed}
        self.trees_ = CatBoost({**parameters, "iterations": self.settings.rounds})
        self.trees_.fit(Pool(inputs, targets, cat_features=list(CATEGORIES)))

    def answers(self, inputs: pd.DataFrame, rounds: int = 0) -> Floats:
        """Answer with the first rounds."""
        pool = Pool(inputs, cat_features=list(CATEGORIES))
        logits = self.trees_.predict(pool, prediction_type="RawFormulaVal", ntree_end=rounds)
        return 1.0 / (1.0 + np.exp(-np.asarray(logits, dtype=np.float64)))
