"""The evaluation of a model on test rows: its figures, slices, calibration, and the gates.

Of every number that a gate compares **lower is better**: it is an RMSE, or a difference of
two. A number that is NaN or infinite never passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand.config import GateSettings
from demand.evaluation.baselines import MEAN
from demand.evaluation.metrics import (
    Floats,
    Interval,
    bootstrap_rmse,
    calibration_table,
    expected_calibration_error,
    regression_metrics,
    rmse,
)
from demand.evaluation.slices import slice_errors, standard_slices
from demand.schema.columns import TARGET

CHAMPION = "champion"
SLICE_MIN_ROWS = 20
# Two models nearer than this in RMSE gave the same predictions up to rounding.
TIE_RMSE = 1e-9


class GateDecision(NamedTuple):
    """What a gate, ``rmse`` or ``champion``, said.

    ``reason`` is one line for a person: what was observed, what was demanded.
    """

    passed: bool
    gate: str
    reason: str


def rmse_gate(rmse: float, threshold: float) -> GateDecision:
    """Demand an RMSE strictly below the threshold; lower is better.

    An RMSE that is equal to the threshold, NaN, infinite or negative is refused. A threshold
    that is NaN or infinite refuses every model.
    """
    if not math.isfinite(threshold):
        return GateDecision(False, "rmse", f"the threshold {threshold} is no finite number")
    if not math.isfinite(rmse) or rmse < 0.0:
        return GateDecision(False, "rmse", f"the test RMSE {rmse} is no error that can be measured")
    passed = rmse < threshold
    relation = "is below" if passed else "is not below"
    # Six digits, but all of them where six would show two different numbers as equal.
    shown = f"{rmse:.6g}" if f"{rmse:.6g}" != f"{threshold:.6g}" else f"{rmse}"
    return GateDecision(passed, "rmse", f"the test RMSE {shown} {relation} {threshold}")


def baseline_gate(rmse: float, baseline_rmse: float) -> GateDecision:
    """Demand an RMSE strictly below that of the mean predictor on the same rows.

    A threshold that is generous for the data must not let a model pass that has learnt
    nothing. NaN and infinity never pass.
    """
    passed = math.isfinite(rmse) and math.isfinite(baseline_rmse) and rmse < baseline_rmse
    relation = "is below" if passed else "is not below"
    reason = f"the test RMSE {rmse:.6g} {relation} the mean predictor's {baseline_rmse:.6g}"
    return GateDecision(passed, "rmse", reason)


def is_tie(difference: Interval) -> bool:
    """Say whether two models gave the same predictions, up to rounding."""
    return abs(difference.estimate) <= TIE_RMSE


def champion_gate(difference: Interval | None, margin: float) -> GateDecision:
    """Keep the champion where the challenger is worse, or no different.

    ``difference`` is RMSE(challenger) - RMSE(champion) on the same rows, which neither was
    trained on, with its paired bootstrap interval; None where there is no champion. By
    ``margin``, at least 0, the challenger may certainly be worse. The rows are tried from the
    top; the first that holds decides.

    | difference                                 | decision                       |
    |--------------------------------------------|--------------------------------|
    | None                                       | pass: no champion              |
    | estimate, low or high is NaN or infinite   | refuse: cannot be compared     |
    | low > margin                               | refuse: worse                  |
    | estimate is 0 (nearer than ``TIE_RMSE``)   | refuse: a tie, champion stays  |
    | anything else                              | pass: not shown to be worse    |

    So a challenger must not be shown to be *better*: with an interval on both sides of
    0 the newer model goes on, since it knows newer ads. A margin of 0 refuses whatever
    the bootstrap shows to be worse at all.
    """
    if difference is None:
        return GateDecision(True, "champion", "there is no champion yet")
    if not all(map(math.isfinite, difference)):
        reason = f"the difference to the champion cannot be measured: {difference}"
        return GateDecision(False, "champion", reason)
    shown = (
        f"RMSE {difference.estimate:+.5f} against the champion on the same rows "
        f"(interval {difference.low:+.5f} to {difference.high:+.5f})"
    )
    if difference.low > margin:
        return GateDecision(False, "champion", f"worse: {shown}, beyond the margin {margin:.5f}")
    if is_tie(difference):
        return GateDecision(False, "champion", f"a tie keeps the champion: {shown}")
    return GateDecision(True, "champion", f"not worse: {shown}, margin {margin:.5f}")


@dataclass(frozen=True)
class Evaluation:
    """What was found out about a model on test rows; lower RMSE is better.

    ``metrics`` by name: ``rmse``, ``mse``, ``mae``, ``rmse_low``, ``rmse_high``, ``bias`` (mean
    of prediction - truth), ``calibration_error``, ``threshold``, ``baseline_rmse`` (of the mean
    predictor), ``baseline_<name>_rmse`` of each other baseline. With a champion also
    ``champion_rmse``, ``champion_difference`` and its ``_low`` and ``_high``. With a noise floor
    also ``noise_floor_rmse`` and, where it lies below the mean predictor, ``explained_share``.
    NaN where predictions are not finite.

    ``compared`` has a row a baseline, and one for the champion where there is one: ``name``,
    ``rmse``, and ``difference``, ``low``, ``high`` of RMSE(model) - RMSE(it), paired on the same
    rows; for ``slices`` and ``calibration`` see :func:`.slices.slice_errors` and
    :func:`.metrics.calibration_table`. ``actual`` and ``predicted`` have the shape (rows,).
    """

    metrics: dict[str, float]
    compared: pd.DataFrame
    slices: pd.DataFrame
    calibration: pd.DataFrame
    decisions: tuple[GateDecision, ...]  # of the RMSE, the mean predictor, and the champion
    settings: GateSettings
    actual: Floats
    predicted: Floats


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

    All answers have the shape (rows,), else, or without rows, that is a ValueError. NaN and
    infinity are measured, not dropped.

    ``frame`` has typed ads with their target that the model has not seen, shape (rows, 18);
    ``baselines`` answers by name, ``mean`` among them; the settings threshold, margin, and the
    bootstrap, which draws sellers. ``noise_floor_rmse`` is the least RMSE that is possible on
    these rows, where it is known (demo ads). The champion, if there is one, is compared on the
    rows ``fresh``, shape (rows,), bool, that it was not trained on either; all by default.
    """
    actual = frame[TARGET].to_numpy(dtype=np.float64)
    answer = np.asarray(predicted, dtype=np.float64)
    sellers = frame["user_id"]  # are drawn, since the ads of one resemble each other
    samples, confidence = settings.bootstrap_samples, settings.confidence
    drawn = partial(bootstrap_rmse, samples=samples, confidence=confidence, seed=seed)
    own = drawn(actual, answer, groups=sellers)
    with np.errstate(invalid="ignore"):
        bias = float(np.mean(answer - actual))
    metrics = regression_metrics(actual, answer) | {
        "rmse_low": own.low,
        "rmse_high": own.high,
        "bias": bias,
        "calibration_error": expected_calibration_error(actual, answer),
        "threshold": settings.rmse_threshold,
    }
    compared = {}
    for name, other in baselines.items():
        key = "baseline_rmse" if name == MEAN else f"baseline_{name}_rmse"
        metrics[key] = rmse(actual, other)
        found = drawn(actual, answer, other, groups=sellers)
        compared[f"baseline: {name}"] = (metrics[key], found)
    if noise_floor_rmse is not None:
        metrics["noise_floor_rmse"] = noise_floor_rmse
        mean = metrics["baseline_rmse"]
        # Of what can be explained: 0 is the mean predictor, 1 the noise floor.
        if noise_floor_rmse < mean:
            explained = (mean**2 - metrics["rmse"] ** 2) / (mean**2 - noise_floor_rmse**2)
            metrics["explained_share"] = explained
    difference = None
    if champion_predicted is not None:
        rows = np.ones(len(actual), bool) if fresh is None else np.asarray(fresh, bool)
        theirs = np.asarray(champion_predicted, dtype=np.float64)[rows]
        difference = drawn(actual[rows], answer[rows], theirs, groups=sellers[rows])
        compared[CHAMPION] = (rmse(actual[rows], theirs), difference)
        metrics |= {
            "champion_rows": float(rows.sum()),
            "champion_rmse": compared[CHAMPION][0],
            "champion_difference": difference.estimate,
            "champion_difference_low": difference.low,
            "champion_difference_high": difference.high,
        }
    return Evaluation(
        metrics=metrics,
        compared=pd.DataFrame(
            {"name": name, "rmse": error, "difference": d.estimate, "low": d.low, "high": d.high}
            for name, (error, d) in compared.items()
        ),
        slices=slice_errors(actual, answer, standard_slices(frame), min_rows=SLICE_MIN_ROWS),
        calibration=calibration_table(actual, answer),
        decisions=(
            rmse_gate(metrics["rmse"], settings.rmse_threshold),
            baseline_gate(metrics["rmse"], metrics["baseline_rmse"]),
            champion_gate(difference, settings.champion_margin),
        ),
        settings=settings,
        actual=actual,
        predicted=answer,
    )
