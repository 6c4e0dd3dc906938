"""Whether a deployed model is the registered one, and how good its answers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from demand.ads import TARGET
from demand.batch import counted
from demand.config import GateSettings
from demand.gate import GateDecision
from demand.metrics import Floats, bootstrap_rmse, paired_rows, regression_metrics
from demand.serving.observation import ADS_PER_REQUEST, Observed
from demand.serving.production_ads import LabelledAds
from demand.serving.production_report import ERRORS, report

GATE = "production"
# Beyond what the rounding of JSON and of 32-bit sums can explain.
RMSE_TOLERANCE = 1e-6
ANSWER_TOLERANCE = 1e-5

_FIGURES = (*ERRORS, "rmse_low", "rmse_high")


@dataclass(frozen=True)
class Served:
    """A version that answered, as the registry knows it.

    Parameters
    ----------
    answers
        Of its Predictor to all the ads, shape (n,).
    metrics
        Figures of its training, on its test ads.
    data_md5
        The bytes it was trained on.
    """

    answers: Floats
    metrics: Mapping[str, float]
    data_md5: str


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Parameters
    ----------
    metrics
        The content of ``metrics.json``.
    report
        The same for people, as Markdown.
    decision
        Of the gate ``production``: the answers are those of the Predictor, or not.
    """

    metrics: dict[str, Any]
    report: str
    decision: GateDecision


def judge(
    ads: LabelledAds,
    observed: Observed,
    served: Mapping[str, Served | None],
    *,
    settings: GateSettings,
    seed: int,
    warnings: Sequence[str] = (),
) -> Evaluation:
    """Measure the answers, and compare each with the Predictor of its own version.

    Parameters
    ----------
    ads, observed
        n ads, and n answers with their versions.
    served
        Each version that answered.
    settings, seed
        Of the intervals, which are drawn by seller.
    warnings
        Found before; they are reported with those found here.
    """
    actual = ads.frame[TARGET].to_numpy(dtype=np.float64)
    offline = _own_answers(observed, served)
    with np.errstate(invalid="ignore"):
        beside = regression_metrics(actual, offline)
        furthest = float(np.max(np.abs(observed.answers - offline)))
    figures = _errors(actual, observed.answers, ads.frame["user_id"], settings, seed)
    decision = production_gate(figures["rmse"], beside["rmse"], furthest, served)
    counts = Counter(map(str, observed.versions))
    last = str(observed.versions[-1])
    known = served[last]
    metrics: dict[str, Any] = {
        **figures,
        "confidence": settings.confidence,
        "n": len(actual),
        **_speed(observed),
        **{f"offline_{name}": beside[name] for name in ERRORS},
        "max_difference": furthest,
        "model_version": last,
        "versions": dict(counts),
        "endpoint": observed.endpoint,
        "training": {n: known.metrics[n] for n in _FIGURES if n in known.metrics} if known else {},
        "data_md5": ads.data_md5,
        "passed": decision.passed,
        "reason": decision.reason,
        "warnings": [*ads.warnings, *warnings, *_findings(counts, ads, served)],
    }
    # JSON has no NaN.
    metrics = {name: None if value != value else value for name, value in metrics.items()}
    return Evaluation(metrics, report(metrics), decision)


def _own_answers(observed: Observed, served: Mapping[str, Served | None]) -> Floats:
    """Return what the Predictor of each answer's own version says, shape (n,); NaN if unknown."""
    own = np.full(len(observed.answers), np.nan)
    for row, version in enumerate(map(str, observed.versions)):
        if (known := served[version]) is not None:
            own[row] = known.answers[row]
    return own


def _speed(observed: Observed) -> dict[str, float]:
    """Return the latency of requests in ms, and the throughput of one after the other."""
    latency_ms = observed.seconds * 1000.0
    ads = len(observed.answers)
    return {
        "latency_ms_p50": float(np.percentile(latency_ms, 50)),
        "latency_ms_p99": float(np.percentile(latency_ms, 99)),
        "throughput_ads_per_s": ads / float(observed.seconds.sum()),
        "requests": len(latency_ms),
        "ads_per_request": min(ADS_PER_REQUEST, ads),
    }


def _findings(
    counts: Mapping[str, int], ads: LabelledAds, served: Mapping[str, Served | None]
) -> list[str]:
    """Return warnings about what answered."""
    told = []
    if len(counts) > 1:
        shares = ", ".join(f"version {name} {counted(n, 'ad')}" for name, n in counts.items())
        told.append(f"the model was switched meanwhile; answered were by {shares}")
    if any(known and known.data_md5 == ads.data_md5 for known in served.values()):
        told.append(
            "the served model was trained on this very file: what it learnt by heart looks "
            "better here than new ads will"
        )
    return told


def production_gate(
    rmse: float, offline_rmse: float, max_difference: float, served: Mapping[str, Served | None]
) -> GateDecision:
    """Demand that the deployed model is the registered one: the same answers, up to rounding.

    The RMSE may differ by at most ``RMSE_TOLERANCE``, a single answer by at most
    ``ANSWER_TOLERANCE``; NaN never passes, nor does a version that is not registered.
    """
    unknown = [name for name, known in served.items() if known is None]
    if unknown:
        names = ", ".join(unknown)
        reason = f"the endpoint answers as version {names}, which the registry does not have"
        return GateDecision(False, GATE, reason)
    shown = (
        f"the deployed RMSE {rmse:.6f} and the registered model's {offline_rmse:.6f} differ by "
        f"{abs(rmse - offline_rmse):.2g}, single answers by up to {max_difference:.2g}"
    )
    # Written so that NaN fails.
    same = abs(rmse - offline_rmse) <= RMSE_TOLERANCE and max_difference <= ANSWER_TOLERANCE
    allowed = f"(allowed: {RMSE_TOLERANCE:g} and {ANSWER_TOLERANCE:g})"
    return GateDecision(same, GATE, f"{shown} {allowed}")


def _errors(
    actual: Floats, answers: Floats, sellers: pd.Series[Any], settings: GateSettings, seed: int
) -> dict[str, float]:
    """Return RMSE, MSE and MAE, each with ``_low`` and ``_high``, drawn by seller."""
    truth, given = paired_rows(actual, answers)
    figures = regression_metrics(truth, given)
    drawn = partial(
        bootstrap_rmse,
        samples=settings.bootstrap_samples,
        confidence=settings.confidence,
        seed=seed,
        groups=sellers.to_numpy(),
    )
    rmse = drawn(truth, given)
    # The RMSE of the roots of absolute errors is the root of their mean.
    root_mae = drawn(np.zeros(len(truth)), np.sqrt(np.abs(given - truth)))
    for name, interval, power in (("rmse", rmse, 1), ("mse", rmse, 2), ("mae", root_mae, 2)):
        figures[f"{name}_low"] = interval.low**power
        figures[f"{name}_high"] = interval.high**power
    return figures
