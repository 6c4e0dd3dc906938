"""The peers: baselines, ridge, LightGBM and CatBoost, each with a fair chance.

Settings are chosen from a few candidates by cross-validation inside the training ads of
the first fold, and with them the number of rounds: the one with the least error of the
inner folds' mean curve, which stops early as a single validation part would, but with
less luck. Each fold then trains on all its training ads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from catboost import CatBoost, Pool
from lightgbm import Booster, Dataset
from lightgbm import train as train_lightgbm
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from benchmarks.quality_features import (
    CHAIN,
    SEED,
    AdNumbers,
    TargetStatistics,
    TextDigest,
    text_weights,
)
from benchmarks.quality_folds import Entry, Family, Model, seller_folds
from demand.evaluation.baselines import BaselineMLP, CategoryMeans, mean_baseline
from demand.evaluation.metrics import Floats, rmse
from demand.schema.columns import TARGET

CATEGORIES = [*CHAIN, "region", "city", "user_type", "image_top_1"]
SEARCH_FOLDS = 5
# Rounds are counted in these steps.
EVERY = 10


@dataclass(frozen=True)
class Settings:
    """What a search chooses between: parameters of the model, and rounds.

    In a search these are at most as many, in a fold as many as the search found. Further
    components of the text's rotation, and terms of TF-IDF, at most of each kind.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    rounds: int = 600
    components: int = 64
    terms: int = 60_000


def names(ads: pd.DataFrame) -> pd.DataFrame:
    """Return the categories as texts; a missing one is a value of its own."""
    return ads[CATEGORIES].astype(str)


class MeanModel:
    """Predict the mean of the training ads."""

    def fit(self, ads: pd.DataFrame) -> MeanModel:
        """Learn the mean."""
        self.mean_ = mean_baseline(ads[TARGET], 1)
        return self

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Return it, shape (rows,)."""
        return np.repeat(self.mean_, len(ads))


class Peer(ABC):
    """A model, with a seed, on what encoders make of ads."""

    DEFAULTS: ClassVar[dict[str, Any]] = {}

    def __init__(self, settings: Settings, seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed
        self.parameters = {**self.DEFAULTS, **settings.parameters}
        self.encoders: list[Any] = [AdNumbers(), TargetStatistics()]

    def fit(self, ads: pd.DataFrame) -> Self:
        """Learn from typed ads with their target."""
        self.grow(self.inputs(ads), ads[TARGET])
        return self

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Return a probability an ad, shape (rows,)."""
        return self.answers(self.transform(ads))

    def inputs(self, ads: pd.DataFrame) -> list[Any]:
        """Let the encoders learn; return what the training ads become, out of fold."""
        return [encoder.fit_transform(ads) for encoder in self.encoders]

    def transform(self, ads: pd.DataFrame) -> list[Any]:
        """Return what new ads become, a matrix an encoder."""
        return [encoder.transform(ads) for encoder in self.encoders]

    def staged(self, inputs: list[Any]) -> Iterator[Floats]:
        """Yield the answers after each :data:`EVERY` rounds."""
        for rounds in range(EVERY, self.settings.rounds + 1, EVERY):
            yield self.answers(inputs, rounds)

    @abstractmethod
    def grow(self, inputs: list[Any], targets: pd.Series) -> None:
        """Train on inputs."""

    @abstractmethod
    def answers(self, inputs: list[Any], rounds: int = 0) -> Floats:
        """Answer with the first ``rounds`` rounds, or (0) with all of them."""


class RidgePeer(Peer):
    """Ridge on TF-IDF of words and pieces of them, one-hots, numbers and statistics."""

    SCALE = 0.3  # of a number's standard deviation, beside TF-IDF rows of length 1

    def __init__(self, settings: Settings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        one_hot = OneHotEncoder(handle_unknown="ignore", min_frequency=3)
        self.encoders += [text_weights(settings.terms)]
        self.encoders += [make_pipeline(FunctionTransformer(names), one_hot)]

    def grow(self, inputs: list[Any], targets: pd.Series) -> None:
        """Learn the scale of numbers, and solve."""
        self.scaler_ = StandardScaler().fit(np.nan_to_num(np.hstack(inputs[:2])))
        ridge = Ridge(solver="sparse_cg", tol=1e-3, **self.parameters)
        self.ridge_ = ridge.fit(self._matrix(inputs), targets)

    def answers(self, inputs: list[Any], rounds: int = 0) -> Floats:  # noqa: ARG002
        """Answer; there are no rounds."""
        return np.asarray(self.ridge_.predict(self._matrix(inputs))).clip(0.0, 1.0)

    def _matrix(self, inputs: list[Any]) -> csr_matrix:
        scaled = self.SCALE * self.scaler_.transform(np.nan_to_num(np.hstack(inputs[:2])))
        return hstack([*inputs[2:], csr_matrix(scaled)]).tocsr()


class LightGBMPeer(Peer):
    """LightGBM; cross-entropy, whose answers lie in (0, 1) by themselves.

    Its own categories made it worse: the target statistics say the same, out of fold.
    """

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

    def __init__(self, settings: Settings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.encoders += [TextDigest(settings.components, terms=settings.terms)]

    def grow(self, inputs: list[Any], targets: pd.Series) -> None:
        """Grow the trees."""
        data = Dataset(np.hstack(inputs), targets.to_numpy())
        parameters = {**self.parameters, "seed": self.seed}
        self.trees_: Booster = train_lightgbm(parameters, data, self.settings.rounds)

    def answers(self, inputs: list[Any], rounds: int = 0) -> Floats:
        """Answer with the first rounds."""
        answers = self.trees_.predict(np.hstack(inputs), num_iteration=rounds or -1)
        return np.clip(np.asarray(answers, dtype=np.float64), 0.0, 1.0)


class CatBoostPeer(Peer):
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

    def __init__(self, settings: Settings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.encoders += [TextDigest(settings.components, terms=settings.terms)]
        self.encoders += [FunctionTransformer(names)]

    def grow(self, inputs: list[Any], targets: pd.Series) -> None:
        """Grow the trees."""
        rounds = {"random_seed": self.seed, "iterations": self.settings.rounds}
        self.trees_ = CatBoost({**self.parameters, **rounds}).fit(_pool(inputs, targets))

    def answers(self, inputs: list[Any], rounds: int = 0) -> Floats:
        """Answer with the first rounds."""
        form = {"prediction_type": "RawFormulaVal", "ntree_end": rounds}
        logits = self.trees_.predict(_pool(inputs), **form)
        return 1.0 / (1.0 + np.exp(-np.asarray(logits, dtype=np.float64)))


def _pool(inputs: list[Any], targets: pd.Series | None = None) -> Pool:
    *dense, categories = inputs
    table = pd.DataFrame(np.hstack(dense)).add_prefix("number_")
    table = table.join(categories.reset_index(drop=True))
    return Pool(table, targets, cat_features=CATEGORIES)


def chosen(peer: type[Peer], train: pd.DataFrame, candidates: tuple[Settings, ...]) -> Settings:
    """Return the candidate and its rounds with the least error over inner folds.

    The candidates differ in the model only, so that the features are made once.
    """
    curves = [np.zeros(candidate.rounds // EVERY) for candidate in candidates]
    for known, asked in inner_parts(train):
        first = peer(candidates[0])
        left, right = first.inputs(known), first.transform(asked)
        for curve, candidate in zip(curves, candidates, strict=True):
            grown = peer(candidate)
            grown.grow(left, known[TARGET])
            curve += [rmse(asked[TARGET], answers) for answers in grown.staged(right)]
    best = int(np.argmin([curve.min() for curve in curves]))
    return replace(candidates[best], rounds=EVERY * (int(curves[best].argmin()) + 1))


def inner_parts(train: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield training and validation ads inside of training ads, without a common seller."""
    fold = seller_folds(train["user_id"], SEARCH_FOLDS, SEED)
    for number in range(SEARCH_FOLDS):
        inside = fold != number
        yield train[inside].reset_index(drop=True), train[~inside].reset_index(drop=True)


def plain(name: str, make: Callable[[int], Model]) -> Family:
    """Return the family of a peer that ``make`` makes from a seed, without a search."""
    return Family(name, lambda _: make)


def searched(peer: type[Peer], candidates: tuple[Settings, ...]) -> Family:
    """Return the family of a peer whose settings are searched."""

    def prepare(train: pd.DataFrame) -> Callable[[int], Model]:
        best = chosen(peer, train, candidates)
        return lambda seed: peer(best, seed)

    return Family(peer.__name__, prepare)


RIDGE = tuple(Settings({"alpha": alpha}, rounds=EVERY) for alpha in (20.0, 40.0, 70.0, 120.0))
LIGHTGBM = tuple(
    Settings(parameters)
    for parameters in (
        {"num_leaves": 15},
        {"num_leaves": 31},
        {"num_leaves": 15, "feature_fraction": 0.2},
        {"num_leaves": 31, "feature_fraction": 0.2},
        {"num_leaves": 7, "learning_rate": 0.05},
        {"num_leaves": 15, "min_data_in_leaf": 60},
    )
)
CATBOOST = tuple(
    Settings(parameters, rounds=400)
    for parameters in ({}, {"l2_leaf_reg": 5.0}, {"depth": 5}, {"depth": 7})
)
SEEDS = (0, 1, 2, 3, 4)


def peer_entries(
    ridge: tuple[Settings, ...] = RIDGE,
    lightgbm: tuple[Settings, ...] = LIGHTGBM,
    catboost: tuple[Settings, ...] = CATBOOST,
    seeds: tuple[int, ...] = SEEDS,
) -> list[Entry]:
    """Return the peers' lines, each search with its candidates."""
    light, cat = searched(LightGBMPeer, lightgbm), searched(CatBoostPeer, catboost)
    mlp, many = plain("mlp", lambda seed: BaselineMLP(seed=seed)), f"{len(seeds)} seeds"
    return [
        Entry("mean", "mean", plain("mean", lambda _: MeanModel())),
        Entry("categories", "category means", plain("categories", lambda _: CategoryMeans())),
        Entry("mlp", f"the report's MLP, mean of {many}", mlp, seeds, "each"),
        Entry("ridge", "ridge on TF-IDF", searched(RidgePeer, ridge)),
        Entry("lightgbm", "LightGBM", light, seeds[:1]),
        Entry("lightgbm5", f"LightGBM, {many} averaged", light, seeds),
        Entry("catboost", "CatBoost", cat, seeds[:1]),
        Entry("catboost5", f"CatBoost, {many} averaged", cat, seeds),
    ]
