"""The peers: baselines, ridge, LightGBM and CatBoost, each with a fair chance.

Settings are chosen from a few candidates by cross-validation inside the training ads of
the first fold, and with them the number of rounds: the one with the least error of the
inner folds' mean curve, which stops early as a single validation part would, but with
less luck. Each fold then trains on all its training ads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.fidelity_models import SEED, Floats
from benchmarks.quality_features import AdNumbers, TargetStatistics, TextWeights
from benchmarks.quality_folds import Entry, Family, Model, Prepared, seller_folds
from benchmarks.quality_trees import (
    EVERY,
    BoostedPeer,
    CatBoostPeer,
    LightGBMPeer,
    Settings,
    names,
)
from demand.ads import TARGET
from demand.evaluation.baselines import CategoryMeans, mean_baseline
from demand.evaluation.reports_mlp import ReportsMLP
from demand.metrics import rmse

SEARCH_FOLDS = 5


class MeanModel:
    """Predict the mean of the training ads."""

    def fit(self, ads: pd.DataFrame) -> MeanModel:
        """Learn the mean."""
        self.mean_ = mean_baseline(ads[TARGET], 1)
        return self

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Return it, shape (rows,)."""
        return np.repeat(self.mean_, len(ads))


class RidgePeer:
    """Ridge on TF-IDF of words and pieces of them, one-hots, numbers and statistics."""

    SCALE = 0.3  # of a number's standard deviation, beside TF-IDF rows of length 1

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def fit(self, ads: pd.DataFrame) -> RidgePeer:
        """Learn from typed ads with their target."""
        self.ridge_ = self.ridge(self.inputs(ads), ads[TARGET], **self.settings.parameters)
        return self

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Return a probability an ad, shape (rows,)."""
        return np.clip(self.ridge_.predict(self.transform(ads)), 0.0, 1.0)

    @staticmethod
    def ridge(inputs: csr_matrix, targets: pd.Series, alpha: float) -> Ridge:
        """Fit ridge on inputs."""
        return Ridge(alpha=alpha, solver="sparse_cg", tol=1e-3).fit(inputs, targets)

    def inputs(self, ads: pd.DataFrame) -> csr_matrix:
        """Learn what ads become, and return what these have become, out of fold."""
        self.weights = TextWeights(self.settings.terms).fit(ads)
        self.numbers = AdNumbers().fit(ads)
        self.statistics = TargetStatistics()
        self.encoder = OneHotEncoder(handle_unknown="ignore", min_frequency=3)
        self.encoder.fit(names(ads))
        dense = np.hstack([self.numbers.transform(ads), self.statistics.fit_transform(ads)])
        self.scaler = StandardScaler().fit(np.nan_to_num(dense))
        return self._together(ads, dense)

    def transform(self, ads: pd.DataFrame) -> csr_matrix:
        """Return the inputs of new ads."""
        dense = np.hstack([self.numbers.transform(ads), self.statistics.transform(ads)])
        return self._together(ads, dense)

    def _together(self, ads: pd.DataFrame, dense: Floats) -> csr_matrix:
        scaled = self.SCALE * self.scaler.transform(np.nan_to_num(dense))
        return hstack(
            [self.weights.transform(ads), self.encoder.transform(names(ads)), csr_matrix(scaled)]
        ).tocsr()


def chosen_ridge(train: pd.DataFrame, candidates: tuple[Settings, ...]) -> Settings:
    """Return the candidate with the least error over inner folds of the training ads."""
    errors = np.zeros(len(candidates))
    for known, asked in inner_parts(train):
        peer = RidgePeer(candidates[0])
        left, right = peer.inputs(known), peer.transform(asked)
        for place, candidate in enumerate(candidates):
            ridge = peer.ridge(left, known[TARGET], **candidate.parameters)
            errors[place] += rmse(asked[TARGET], np.clip(ridge.predict(right), 0.0, 1.0))
    return candidates[int(errors.argmin())]


def chosen_trees(
    peer: type[BoostedPeer], train: pd.DataFrame, candidates: tuple[Settings, ...]
) -> Settings:
    """Return the candidate and its rounds with the least error over inner folds.

    The candidates differ in the trees only, so that the features are made once.
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


def way_of(make: Callable[[int], Any], settings: Settings | None = None) -> Prepared:
    """Return the way to train a peer that ``make`` makes from a seed."""

    def fit(train: pd.DataFrame, test: pd.DataFrame, seed: int) -> tuple[Floats, Model]:
        model = make(seed).fit(train)
        return model.predict(test), model

    return Prepared(fit, asdict(settings) if settings else {})


RIDGE = tuple(Settings({"alpha": alpha}) for alpha in (20.0, 40.0, 70.0, 120.0))
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

    def plain(name: str, make: Callable[[int], Any]) -> Family:
        return Family(name, lambda _: way_of(make))

    def best_ridge(train: pd.DataFrame) -> Prepared:
        best = chosen_ridge(train, ridge)
        return way_of(lambda _: RidgePeer(best), best)

    def trees(peer: type[BoostedPeer], candidates: tuple[Settings, ...]) -> Family:
        def best_trees(train: pd.DataFrame) -> Prepared:
            best = chosen_trees(peer, train, candidates)
            return way_of(lambda seed: peer(best, seed), best)

        return Family(peer.__name__, best_trees)

    light, cat = trees(LightGBMPeer, lightgbm), trees(CatBoostPeer, catboost)
    mlp = plain("mlp", lambda seed: ReportsMLP(seed=seed))
    many = f"{len(seeds)} seeds"
    return [
        Entry("mean", "mean", plain("mean", lambda _: MeanModel())),
        Entry("categories", "category means", plain("categories", lambda _: CategoryMeans())),
        Entry("mlp", f"the report's MLP, mean of {many}", mlp, seeds, "each"),
        Entry("ridge", "ridge on TF-IDF", Family("ridge", best_ridge)),
        Entry("lightgbm", "LightGBM", light, seeds[:1]),
        Entry("lightgbm5", f"LightGBM, {many} averaged", light, seeds),
        Entry("catboost", "CatBoost", cat, seeds[:1]),
        Entry("catboost5", f"CatBoost, {many} averaged", cat, seeds),
    ]
