"""How wrong a model is in production: on ads whose outcome is known, and by estimate before."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pandas as pd

from demand.evaluation.metrics import Interval, bootstrap_rmse, regression_metrics
from demand.monitoring.rules import Reading
from demand.production_log.config import MonitoringSettings
from demand.schema.arrays import Floats

_BINS = 20


def outcome_readings(
    ads: pd.DataFrame, reference: pd.DataFrame, settings: MonitoringSettings, seed: int
) -> dict[str, Reading]:
    """Return how wrong n answers were whose outcomes are due.

    Takes ``deal_probability``, ``outcome`` (NaN where it is not known) and ``seller`` (None stands
    for itself) of each. ``rmse`` and ``bias`` (mean of answer less outcome) have bootstrap
    intervals by seller, as has ``rmse_excess``: how much the RMSE lies above that of the
    reference, what training promised; ``rmse_expected`` see :func:`expected_rmse`. Where too
    few outcomes are known they are missing: those might be the deals alone. ``coverage`` is the
    share of outcomes within the intervals, ``low`` to ``high``, that were told.
    """
    known = ads[ads["outcome"].notna()]
    share = len(known) / len(ads) if len(ads) else 0.0
    missing = None
    if not len(ads):
        missing = "it answered no ad whose outcome is due"
    elif share < settings.known_share_min or known.empty:
        missing = f"only {share:.0%} of the outcomes that are due are known"
    told = {"known_share": Reading(value=share if len(ads) else None, rows=len(ads))}
    if missing:
        names = ("rmse", "mae", "bias", "rmse_excess", "rmse_expected", "coverage")
        return told | {name: Reading(missing=missing) for name in names}
    actual, answers = known["outcome"].to_numpy(), known["deal_probability"].to_numpy()
    rmse = bootstrap_rmse(
        actual,
        answers,
        samples=settings.bootstrap_samples,
        confidence=settings.confidence,
        seed=seed,
        groups=known["seller"].to_numpy(),
    )
    promised = regression_metrics(reference["outcome"], reference["deal_probability"])["rmse"]
    excess = Interval(*(figure - promised for figure in rmse))
    rows, mae = len(known), regression_metrics(actual, answers)["mae"]
    bias = _mean(answers - actual, known["seller"], settings.confidence)
    return told | {
        "rmse": _reading(rmse, rows),
        "mae": Reading(value=mae, rows=rows),
        "bias": _reading(bias, rows),
        "rmse_excess": _reading(excess, rows),
        "rmse_expected": expected_rmse(answers, reference),
        "coverage": _coverage(known),
    }


def compared_reading(
    own: pd.DataFrame, other: pd.DataFrame, settings: MonitoringSettings, seed: int
) -> Reading:
    """Return the RMSE of a model less that of another on the same answers whose outcomes are known.

    Takes the answers of both, with ``outcome``; they are the same where request and row are.
    The interval is of the difference (paired bootstrap by seller): above 0 the other is better.
    """
    key = ["request_id", "row"]
    theirs = other[[*key, "deal_probability"]].rename(columns={"deal_probability": "other"})
    both = own[own["outcome"].notna()].merge(theirs, on=key)
    if both.empty:
        return Reading(missing="no ad with a known outcome was answered by both")
    found = bootstrap_rmse(
        both["outcome"].to_numpy(),
        both["deal_probability"].to_numpy(),
        both["other"].to_numpy(),
        samples=settings.bootstrap_samples,
        confidence=settings.confidence,
        seed=seed,
        groups=both["seller"].to_numpy(),
    )
    return _reading(found, len(both))


def expected_rmse(answers: Floats, reference: pd.DataFrame) -> Reading:
    """Estimate the RMSE of answers, shape (n,), whose outcomes are not known.

    Each is expected to be as wrong as answers of its size were on the reference: right where
    only the mix of ads has changed, and blind to a change of what ads of a kind are worth.
    """
    if not len(answers):
        return Reading(missing="no ad was answered")
    known = reference["deal_probability"].to_numpy()
    squares = (known - reference["outcome"].to_numpy()) ** 2
    order = np.argsort(known, kind="stable")
    bins = np.array_split(order, min(_BINS, len(order)))
    firsts = np.array([known[each[0]] for each in bins])
    means = np.array([squares[each].mean() for each in bins])
    at = np.clip(np.searchsorted(firsts, answers, side="right") - 1, 0, None)
    return Reading(value=float(np.sqrt(means[at].mean())), rows=len(answers))


def _coverage(known: pd.DataFrame) -> Reading:
    told = known[known["low"].notna()]
    if told.empty:
        return Reading(missing="no interval was told")
    share = float(told["outcome"].between(told["low"], told["high"]).mean())
    return Reading(value=share, rows=len(told))


def _mean(values: Floats, sellers: pd.Series, confidence: float) -> Interval:
    """Return a mean and its interval, where the ads of a seller may resemble each other."""
    mean, n = float(values.mean()), len(values)
    own = pd.Series([f"row {row}" for row in range(n)], sellers.index)
    sums = pd.Series(values - mean, sellers.index).groupby(sellers.fillna(own)).sum()
    reach = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * float(np.sqrt((sums**2).sum())) / n
    return Interval(mean, mean - reach, mean + reach)


def _reading(found: Interval, rows: int) -> Reading:
    return Reading(value=found.estimate, low=found.low, high=found.high, rows=rows)
