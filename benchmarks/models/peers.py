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
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from catboost import CatBoost
from lightgbm import Booster, Dataset
from lightgbm import train as train_lightgbm
from scipy.special import expit
from sklearn.linear_model import Ridge
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from benchmarks.models.features import (
    CHAIN,
    SEED,
    AdNumbers,
    TargetStatistics,
    TextDigest,
    text_weights,
)
from benchmarks.models.folds import Entry, Model, Prepare, seller_folds
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
        self.encoders = self.encoding(settings)

    def encoding(self, settings: Settings) -> FeatureUnion:
        """Return what makes inputs of ads, not fitted."""
        text = TextDigest(settings.components, terms=settings.terms)
        return make_union(AdNumbers(), TargetStatistics(), text)

    def fit(self, ads: pd.DataFrame) -> Self:
        """Learn from typed ads with their target."""
        self.grow(self.inputs(ads, learn=True), ads[TARGET])
        return self

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Return a probability an ad, shape (rows,)."""
        return self.answers(self.inputs(ads))

    def inputs(self, ads: pd.DataFrame, *, learn: bool = False) -> Any:
        """Encode ads, shape (rows, inputs); training ads, from which to ``learn``, out of fold."""
        return self.encoders.fit_transform(ads) if learn else self.encoders.transform(ads)

    @abstractmethod
    def grow(self, inputs: Any, targets: pd.Series) -> None:
        """Train on inputs."""

    @abstractmethod
    def answers(self, inputs: Any, rounds: int = 0) -> Floats:
        """Answer with the first ``rounds`` rounds, or (0) with all of them."""


class RidgePeer(Peer):
    """Ridge on TF-IDF of words and pieces of them, one-hots, numbers and statistics."""

    SCALE = 0.3  # of a number's standard deviation, beside TF-IDF rows of length 1

    def encoding(self, settings: Settings) -> FeatureUnion:
        """Return all of them; numbers are scaled."""
        one_hot = OneHotEncoder(handle_unknown="ignore", min_frequency=3)
        numbers = make_union(AdNumbers(), TargetStatistics())
        parts = {
            "numbers": make_pipeline(numbers, FunctionTransformer(np.nan_to_num), StandardScaler()),
            "texts": text_weights(settings.terms),
            "categories": make_pipeline(FunctionTransformer(names), one_hot),
        }
        return FeatureUnion([*parts.items()], transformer_weights={"numbers": self.SCALE})

    def grow(self, inputs: Any, targets: pd.Series) -> None:
        """Solve."""
        self.ridge_ = Ridge(solver="sparse_cg", tol=1e-3, **self.parameters).fit(inputs, targets)

    def answers(self, inputs: Any, rounds: int = 0) -> Floats:  # noqa: ARG002
        """Answer; there are no rounds."""
        return np.asarray(self.ridge_.predict(inputs)).clip(0.0, 1.0)


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

    def grow(self, inputs: Any, targets: pd.Series) -> None:
        """Grow the trees."""
        parameters, data = {**self.parameters, "seed": self.seed}, Dataset(inputs, targets)
        self.trees_: Booster = train_lightgbm(parameters, data, self.settings.rounds)

    def answers(self, inputs: Any, rounds: int = 0) -> Floats:
        """Answer with the first rounds."""
        return np.asarray(self.trees_.predict(inputs, num_iteration=rounds))


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

    def inputs(self, ads: pd.DataFrame, *, learn: bool = False) -> Any:
        """Encode ads as a table, with their categories as texts."""
        numbers = pd.DataFrame(super().inputs(ads, learn=learn)).add_prefix("number_")
        return numbers.join(names(ads).reset_index(drop=True))

    def grow(self, inputs: Any, targets: pd.Series) -> None:
        """Grow the trees."""
        rounds = {"random_seed": self.seed, "iterations": self.settings.rounds}
        self.trees_ = CatBoost({**self.parameters, **rounds})
        self.trees_.fit(inputs, targets, cat_features=CATEGORIES)

    def answers(self, inputs: Any, rounds: int = 0) -> Floats:
        """Answer with the first rounds."""
        return np.asarray(expit(self.trees_.predict(inputs, ntree_end=rounds)))


def chosen(peer: type[Peer], train: pd.DataFrame, candidates: tuple[Settings, ...]) -> Settings:
    """Return the candidate and its rounds with the least error over inner folds.

    The candidates differ in the model only, so that the features are made once.
    """
    curves = [np.zeros(candidate.rounds // EVERY) for candidate in candidates]
    for known, asked in inner_parts(train):
        first = peer(candidates[0])
        left, right = first.inputs(known, learn=True), first.inputs(asked)
        for curve, candidate in zip(curves, candidates, strict=True):
            grown = peer(candidate)
            grown.grow(left, known[TARGET])
            steps = range(EVERY, candidate.rounds + 1, EVERY)
            curve += [rmse(asked[TARGET], grown.answers(right, rounds)) for rounds in steps]
    best = int(np.argmin([curve.min() for curve in curves]))
    return replace(candidates[best], rounds=EVERY * (int(curves[best].argmin()) + 1))


def inner_parts(train: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield training and validation ads inside of training ads, without a common seller."""
    fold = seller_folds(train["user_id"], SEARCH_FOLDS, SEED)
    for inside in (fold != number for number in range(SEARCH_FOLDS)):
        yield train[inside].reset_index(drop=True), train[~inside].reset_index(drop=True)


def searched(peer: type[Peer], candidates: tuple[Settings, ...]) -> Prepare:
    """Return what searches the settings of a peer."""
    return lambda train: partial(peer, chosen(peer, train, candidates))


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
MEAN = Entry("mean", "mean", lambda _: lambda _: MeanModel())
CATEGORY_MEANS = Entry("categories", "category means", lambda _: lambda _: CategoryMeans())


def peer_entries(
    ridge: tuple[Settings, ...] = RIDGE,
    lightgbm: tuple[Settings, ...] = LIGHTGBM,
    catboost: tuple[Settings, ...] = CATBOOST,
    seeds: tuple[int, ...] = SEEDS,
) -> list[Entry]:
    """Return the peers' lines, each search with its candidates."""
    light, cat = searched(LightGBMPeer, lightgbm), searched(CatBoostPeer, catboost)
    many = f"{len(seeds)} seeds"

    def mlp(_: pd.DataFrame) -> Callable[[int], Model]:
        return lambda seed: BaselineMLP(seed=seed)

    return [
        MEAN,
        CATEGORY_MEANS,
        Entry("mlp", f"the report's MLP, mean of {many}", mlp, seeds, "each"),
        Entry("ridge", "ridge on TF-IDF", searched(RidgePeer, ridge)),
        Entry("lightgbm", "LightGBM", light, seeds[:1]),
        Entry("lightgbm5", f"LightGBM, {many} averaged", light, seeds),
        Entry("catboost", "CatBoost", cat, seeds[:1]),
        Entry("catboost5", f"CatBoost, {many} averaged", cat, seeds),
    ]
