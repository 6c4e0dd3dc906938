"""The evaluation of a model on test rows: its figures, slices and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand.ads import TARGET
from demand.config import GateSettings
from demand.evaluation.baselines import MEAN
from demand.evaluation.slices import slice_errors, standard_slices
from demand.gate import GateDecision, baseline_gate, champion_gate, rmse_gate
from demand.metrics import (
    Floats,
    Interval,
    bootstrap_rmse,
    calibration_table,
    expected_calibration_error,
    explained_share,
    paired_bootstrap,
    regression_metrics,
    rmse,
)

CHAMPION = "champion"
SLICE_MIN_ROWS = 20


@dataclass(frozen=True)
class Evaluation:
    """What was found out about a model on test rows; lower RMSE is better.

    Parameters
    ----------
    metrics
        By name: ``rmse``, ``mse``, ``mae``, ``rmse_low``, ``rmse_high``, ``bias`` (mean of
        prediction - truth), ``calibration_error``, ``threshold``, ``baseline_rmse`` (of the
        mean predictor), ``baseline_<name>_rmse`` of each other baseline. With a champion
        also ``champion_rmse``, ``champion_difference`` and its ``_low`` and ``_high``. With
        a noise floor also ``noise_floor_rmse`` and, where it lies below the mean predictor,
        ``explained_share``. NaN where predictions are not finite.
    compared
        A row a baseline, and one for the champion where there is one: ``name``, ``rmse``, and
        ``difference``, ``low``, ``high`` of RMSE(model) - RMSE(it), paired on the same rows.
    slices
        See :func:`demand.evaluation.slices.slice_errors`.
    calibration
        See :func:`demand.metrics.calibration_table`.
    difference
        RMSE(model) - RMSE(champion) with its interval; None without a champion.
    settings
        The gate's settings the evaluation was made with.
    actual, predicted
        Shape (rows,).
    """

    metrics: dict[str, float]
    compared: pd.DataFrame
    slices: pd.DataFrame
    calibration: pd.DataFrame
    difference: Interval | None
    settings: GateSettings
    actual: Floats
    predicted: Floats

    @property
    def own_decisions(self) -> tuple[GateDecision, ...]:
        """What the gates say that look at no other trained model."""
        return (
            rmse_gate(self.metrics["rmse"], self.settings.rmse_threshold),
            baseline_gate(self.metrics["rmse"], self.metrics["baseline_rmse"]),
        )

    @property
    def decisions(self) -> tuple[GateDecision, ...]:
        """What all gates say."""
        champion = champion_gate(self.difference, self.settings.champion_margin)
        return (*self.own_decisions, champion)


def evaluate(
    frame: pd.DataFrame,
    predicted: npt.ArrayLike,
    *,
    baselines: Mapping[str, npt.ArrayLike],
    champion_predicted: npt.ArrayLike | None,
    settings: GateSettings,
    seed: int,
    noise_floor_rmse: float | None = None,
    fresh: npt.ArrayLike | None = None,
) -> Evaluation:
    """Measure predictions against the truth, the baselines and the champion.

    Parameters
    ----------
    frame
        Typed ads with their target that the model has not seen, shape (rows, 18).
    predicted
        The model's answers, shape (rows,). NaN and infinity are measured, not dropped.
    baselines
        The answers of each baseline by its name, shape (rows,); ``mean`` must be there.
    champion_predicted
        The champion's answers for the same rows, or None where there is none.
    settings
        Threshold, margin, and the bootstrap's samples and confidence.
    seed
        Of the bootstrap, which draws sellers.
    noise_floor_rmse
        The least RMSE that is possible on these rows, where it is known (demo ads).
    fresh
        Which rows the champion has not been trained on either, shape (rows,), bool; all
        by default. It is compared on those alone.

    Raises
    ------
    ValueError
        No rows, shapes that differ, or no baseline named ``mean``.
    """
    if MEAN not in baselines:
        raise ValueError(f"the baselines need one named {MEAN!r}: {sorted(baselines)}")
    actual = frame[TARGET].to_numpy(dtype=np.float64)
    answer = np.asarray(predicted, dtype=np.float64)
    draws = _Draws(settings, seed, frame["user_id"])
    metrics = _own_metrics(actual, answer, draws) | {"threshold": settings.rmse_threshold}
    for name, other in baselines.items():
        key = "baseline_rmse" if name == MEAN else f"baseline_{name}_rmse"
        metrics[key] = rmse(actual, other)
    if noise_floor_rmse is not None:
        metrics |= _floor_metrics(metrics["rmse"], metrics["baseline_rmse"], noise_floor_rmse)
    compared = {
        f"baseline: {name}": (rmse(actual, other), draws.difference(actual, answer, other))
        for name, other in baselines.items()
    }
    difference = None
    if champion_predicted is not None:
        rows = np.ones(len(actual), bool) if fresh is None else np.asarray(fresh, bool)
        theirs = np.asarray(champion_predicted, dtype=np.float64)[rows]
        draws = _Draws(settings, seed, frame["user_id"][rows])
        difference = draws.difference(actual[rows], answer[rows], theirs)
        compared[CHAMPION] = (rmse(actual[rows], theirs), difference)
        metrics |= _champion_metrics(compared[CHAMPION][0], difference, int(rows.sum()))
    return Evaluation(
        metrics=metrics,
        compared=_compared(compared),
        slices=slice_errors(actual, answer, standard_slices(frame), min_rows=SLICE_MIN_ROWS),
        calibration=calibration_table(actual, answer),
        difference=difference,
        settings=settings,
        actual=actual,
        predicted=answer,
    )


@dataclass(frozen=True)
class _Draws:
    """How the bootstrap draws: sellers, since the ads of one resemble each other."""

    settings: GateSettings
    seed: int
    sellers: pd.Series

    def interval(self, actual: Floats, predicted: Floats) -> Interval:
        """Return the RMSE with its interval."""
        return bootstrap_rmse(
            actual,
            predicted,
            samples=self.settings.bootstrap_samples,
            confidence=self.settings.confidence,
            seed=self.seed,
            groups=self.sellers,
        )

    def difference(self, actual: Floats, first: Floats, second: npt.ArrayLike) -> Interval:
        """Return RMSE(first) - RMSE(second) with its interval."""
        return paired_bootstrap(
            actual,
            first,
            second,
            samples=self.settings.bootstrap_samples,
            confidence=self.settings.confidence,
            seed=self.seed,
            groups=self.sellers,
        )


def _own_metrics(actual: Floats, predicted: Floats, draws: _Draws) -> dict[str, float]:
    """Return the model's figures that need no other model."""
    interval = draws.interval(actual, predicted)
    with np.errstate(invalid="ignore"):
        bias = float(np.mean(predicted - actual))
    return regression_metrics(actual, predicted) | {
        "rmse_low": interval.low,
        "rmse_high": interval.high,
        "bias": bias,
        "calibration_error": expected_calibration_error(actual, predicted),
    }


def _floor_metrics(model: float, mean: float, floor: float) -> dict[str, float]:
    """Return the noise floor and, where there is something to explain, the share explained."""
    figures = {"noise_floor_rmse": floor}
    if floor < mean:
        figures["explained_share"] = explained_share(model, mean, floor)
    return figures


def _champion_metrics(champion_rmse: float, difference: Interval, rows: int) -> dict[str, float]:
    """Return the champion's RMSE and the difference to it, and on how many rows."""
    return {
        "champion_rows": float(rows),
        "champion_rmse": champion_rmse,
        "champion_difference": difference.estimate,
        "champion_difference_low": difference.low,
        "champion_difference_high": difference.high,
    }


def _compared(rivals: Mapping[str, tuple[float, Interval]]) -> pd.DataFrame:
    """Return a row for each rival: its RMSE, and the model's difference to it."""
    rows = [
        {"name": name, "rmse": error, "difference": d.estimate, "low": d.low, "high": d.high}
        for name, (error, d) in rivals.items()
    ]
    return pd.DataFrame(rows)
