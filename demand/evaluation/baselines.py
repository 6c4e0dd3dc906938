"""What a model must at least beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand.ads import TARGET
from demand.evaluation.reports_mlp import ReportsMLP
from demand.metrics import Floats

MEAN = "mean"


def baseline_answers(train: pd.DataFrame, test: pd.DataFrame, seed: int) -> dict[str, Floats]:
    """Fit every baseline on ``train`` and let it predict ``test``.

    Parameters
    ----------
    train
        Typed ads with their target.
    test
        Typed ads, shape (rows, 17 or 18).
    seed
        Of the report's MLP.

    Returns
    -------
    dict
        ``mean``, ``category_means`` and ``reports_mlp``, shape (rows,) each.

    Raises
    ------
    ValueError
        There are no ads to fit on.
    """
    return {
        MEAN: mean_baseline(train[TARGET], len(test)),
        CategoryMeans.NAME: CategoryMeans().fit(train).predict(test),
        ReportsMLP.NAME: ReportsMLP(seed=seed).fit(train).predict(test),
    }


def mean_baseline(train_y: npt.ArrayLike, n: int) -> Floats:
    """Return the mean of the training targets ``n`` times, shape (n,).

    Raises
    ------
    ValueError
        There are no training targets.
    """
    targets = np.asarray(train_y, dtype=np.float64)
    if targets.size == 0:
        raise ValueError("the mean of no training targets does not exist")
    return np.full(n, targets.mean())


class CategoryMeans:
    """Predict the mean target of an ad's category, shrunk towards the mean of all.

    A category with ``n`` ads that sum up to ``s`` predicts
    ``(s + shrinkage * mean) / (n + shrinkage)``; an unseen or missing one the mean.

    Parameters
    ----------
    shrinkage
        How many ads of the overall mean are added to each category, at least 0.
    """

    NAME: ClassVar[str] = "category_means"

    def __init__(self, *, shrinkage: float = 20.0) -> None:
        if not shrinkage >= 0.0:
            raise ValueError(f"the shrinkage must be at least 0, not {shrinkage}")
        self.shrinkage = shrinkage

    def fit(self, frame: pd.DataFrame) -> CategoryMeans:
        """Learn from typed ads with their target.

        Raises
        ------
        ValueError
            There are no ads.
        """
        if frame.empty:
            raise ValueError("category means need at least one ad")
        self.mean_ = float(frame[TARGET].mean())
        groups = frame.groupby("category_name")[TARGET]
        weight = self.shrinkage
        self.means_ = (groups.sum() + weight * self.mean_) / (groups.count() + weight)
        return self

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Return a probability an ad, shape (rows,)."""
        known = frame["category_name"].map(self.means_)
        return known.astype(np.float64).fillna(self.mean_).to_numpy(dtype=np.float64)
