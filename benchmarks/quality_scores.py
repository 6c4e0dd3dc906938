"""What the out-of-fold answers are worth: errors, intervals, calibration, missing columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.fidelity_models import Floats
from benchmarks.quality_folds import Integers, Outcome
from demand.ads import TARGET
from demand.evaluation.coverage import MeasuredCoverage, measure_coverage
from demand.intervals import fit_intervals
from demand.metrics import (
    Interval,
    expected_calibration_error,
    paired_bootstrap,
    regression_metrics,
    rmse,
)
from demand.predictor import parents_of

COVERAGE_ROWS_MIN = 200  # of a parent category
# Ours with one seed and averaged: everybody is compared with both that were trained.
OURS = ("ours", "ours5")


@dataclass(frozen=True)
class Score:
    """The figures of one model.

    Parameters
    ----------
    rmse_mean, rmse_std
        Over the folds; the standard deviation is a sample's.
    rmse, mae
        Of all out-of-fold answers together.
    calibration_error
        Expected calibration error over ten bins of equal count.
    versus
        RMSE of this model less that of ours, by the key of ours; positive: ours is better.
        Where every seed is a model by itself, it is the seed with the median RMSE.
    """

    key: str
    name: str
    rmse_mean: float
    rmse_std: float
    rmse: float
    mae: float
    calibration_error: float
    versus: dict[str, Interval]
    seconds: float
    microseconds: float
    kilobytes: float
    search_seconds: float
    chosen: dict[str, Any]


@dataclass(frozen=True)
class MissingColumn:
    """Ours where the test ads lack a column; ``passed``: no worse than category means."""

    column: str
    rmse: float
    change: float
    category_means: float

    @property
    def passed(self) -> bool:
        """Whether the answers are still worth having."""
        return self.rmse <= self.category_means


def scores(outcomes: list[Outcome], ads: pd.DataFrame, fold: Integers) -> list[Score]:
    """Return the figures of each outcome."""
    references = {o.entry.key: o.predicted[0] for o in outcomes if o.entry.key in OURS}
    return [_score(outcome, ads, fold, references) for outcome in outcomes]


def _score(
    outcome: Outcome, ads: pd.DataFrame, fold: Integers, references: dict[str, Floats]
) -> Score:
    truth = ads[TARGET].to_numpy(dtype=np.float64)
    each = outcome.predicted
    by_fold = [
        np.mean([rmse(truth[fold == number], answers[fold == number]) for answers in each])
        for number in np.unique(fold)
    ]
    pooled = [rmse(truth, answers) for answers in each]
    median = each[int(np.argsort(pooled)[len(pooled) // 2])]
    return Score(
        key=outcome.entry.key,
        name=outcome.entry.name,
        rmse_mean=float(np.mean(by_fold)),
        rmse_std=float(np.std(by_fold, ddof=1)),
        rmse=float(np.mean(pooled)),
        mae=_mean_of(lambda answers: regression_metrics(truth, answers)["mae"], outcome),
        calibration_error=_mean_of(lambda a: expected_calibration_error(truth, a), outcome),
        versus={
            key: paired_bootstrap(truth, median, answers, groups=ads["user_id"])
            for key, answers in references.items()
            if key != outcome.entry.key
        },
        seconds=outcome.seconds,
        microseconds=outcome.microseconds,
        kilobytes=outcome.kilobytes,
        search_seconds=outcome.search_seconds,
        chosen=outcome.chosen,
    )


def _mean_of(figure: Callable[[Floats], float], outcome: Outcome) -> float:
    """Return the mean of a figure over the models of an outcome."""
    return float(np.mean([figure(answers) for answers in outcome.predicted]))


def missing_columns(outcome: Outcome, ads: pd.DataFrame, means: Floats) -> list[MissingColumn]:
    """Return the error of an outcome without each column, the worst first.

    Parameters
    ----------
    means
        Out-of-fold answers of the category means, shape (rows,).
    """
    whole, bound = rmse(ads[TARGET], outcome.predicted[0]), rmse(ads[TARGET], means)
    errors = {name: rmse(ads[TARGET], answers) for name, answers in outcome.without.items()}
    return [
        MissingColumn(name, error, error - whole, bound)
        for name, error in sorted(errors.items(), key=lambda item: -item[1])
    ]


def out_of_fold_coverage(outcome: Outcome, ads: pd.DataFrame, fold: Integers) -> MeasuredCoverage:
    """Return how often intervals hold the outcome, each fold's calibrated on the others.

    Those of the other folds were answered by models that had not seen them either.
    """
    predicted, actual = outcome.predicted[0], ads[TARGET].to_numpy(dtype=np.float64)
    parents = np.array(parents_of(ads), dtype=object)
    low, high = np.empty(len(ads)), np.empty(len(ads))
    for number in np.unique(fold):
        here = fold == number
        intervals = fit_intervals(predicted[~here], actual[~here], list(parents[~here]))
        low[here], high[here] = intervals.bounds(predicted[here], list(parents[here]))
    return measure_coverage(ads, low, high, COVERAGE_ROWS_MIN)
