"""How good the deployed model is: labelled ads through its endpoint, and the Predictor beside.

What is measured is what a caller gets, with its JSON, its server and its network. The
answers must be those of the Predictor of the version that gave them: anything else means
that what serves is not what was checked and promoted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demand.ads import REQUEST_REQUIRED, TARGET
from demand.batch import cleaned, complete, counted, ignored, places
from demand.config import GateSettings
from demand.errors import AdsFileError, ServingError
from demand.evaluation.markdown import Markdown, bullets, escaped, table
from demand.gate import GateDecision
from demand.ingestion.reading import read_ads
from demand.metrics import Floats, bootstrap_rmse, paired_rows, regression_metrics
from demand.serving.endpoint import ADS_PER_REQUEST, Endpoint, Observed, observe
from demand.serving.promotion import champion_predictor
from demand.serving.registry import Registry
from demand.serving.server import active

GATE = "production"
REPORT_FILE = "report.md"
# Beyond what the rounding of JSON and of 32-bit sums can explain.
RMSE_TOLERANCE = 1e-6
ANSWER_TOLERANCE = 1e-5

_ERRORS = ("rmse", "mse", "mae")
_FIGURES = (*_ERRORS, "rmse_low", "rmse_high")


@dataclass(frozen=True)
class LabelledAds:
    """The ads that are sent.

    Parameters
    ----------
    frame
        Typed ads with their target, shape (n, 18), n >= 1.
    data_md5
        Of the bytes of their file.
    warnings
        What was flawed in the file, one line each.
    """

    frame: pd.DataFrame
    data_md5: str
    warnings: tuple[str, ...]


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


def evaluate_endpoint(
    path: Path,
    url: str | None,
    rows: int,
    *,
    settings: GateSettings,
    seed: int,
    max_file_gb: float,
) -> Evaluation:
    """Send labelled ads through a deployed endpoint and judge the answers.

    Parameters
    ----------
    path
        Labelled ads.
    url
        See :class:`demand.serving.endpoint.Endpoint`; None for the active deployment.
    rows, seed
        So many ads are drawn from the file, with that seed; all where there are fewer.
    settings
        Samples and confidence of the intervals.
    max_file_gb
        See :func:`demand.ingestion.reading.read_ads`.

    Raises
    ------
    AdsFileError
        The file cannot be read, or has no ad that can be measured on.
    ServingError
        Nothing is deployed, or it does not answer, or with an error.
    ModelError
        The files of the version that answered are damaged.
    """
    endpoint = Endpoint(url or deployed_url())
    ads = labelled_ads(path, rows, seed, max_file_gb)
    observed = observe(
        ads.frame,
        endpoint,
        # A deployment takes another port: what is given by hand stays, all else is followed.
        where_now=deployed_url if url is None else lambda: endpoint.url,
    )
    observed, said = _with_versions(observed, url)
    served = served_versions(observed, ads.frame)
    return judge(ads, observed, served, settings=settings, seed=seed, warnings=said)


def deployed_url() -> str:
    """Return the URL of the active deployment.

    Raises
    ------
    ServingError
        There is none; says how to get one.
    """
    deployment = active()
    if deployment is None:
        raise ServingError(
            "nothing is deployed: run `demand serve`, train with `python run.py --pipeline "
            "training`, or name an endpoint with --url"
        )
    return deployment.endpoint


def labelled_ads(path: Path, rows: int, seed: int, max_file_gb: float = 8.0) -> LabelledAds:
    """Read labelled ads and draw some of them, in the order of the file.

    Cells that the schema does not allow count as missing; ads without a target, a title
    or a category are left out; both are counted in warnings.

    Raises
    ------
    AdsFileError
        See :func:`demand.ingestion.reading.read_ads`; or no ad is left.
    """
    loaded = read_ads(path, labelled=True, max_file_gb=max_file_gb)
    ads, warnings = cleaned(loaded)
    usable = complete(ads, (*REQUEST_REQUIRED, TARGET))
    lacking = np.flatnonzero(~usable)
    if lacking.size:
        warnings.append(
            f"{counted(lacking.size, 'ad')} without {', '.join(REQUEST_REQUIRED)} or {TARGET} "
            f"left out: {places(loaded, lacking.tolist())}"
        )
    if not usable.any():
        raise AdsFileError(f"{path} has no ad with {', '.join(REQUEST_REQUIRED)} and {TARGET}")
    chosen = np.flatnonzero(usable)
    if chosen.size > rows:
        # Files are often sorted, by time or by seller, so the first rows would be no fair part.
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, rows, replace=False))
    frame = ads.iloc[chosen].reset_index(drop=True)
    return LabelledAds(frame, loaded.md5, (*ignored(loaded), *warnings))


def served_versions(observed: Observed, ads: pd.DataFrame) -> dict[str, Served | None]:
    """Return each version that answered, in order; None where the registry has none such.

    Raises
    ------
    ModelError
        The files of a version are missing or damaged.
    """
    known = {version.version: version for version in Registry().versions()}
    found: dict[str, Served | None] = {}
    for name in dict.fromkeys(map(str, observed.versions)):
        if name not in known:
            found[name] = None
            continue
        answers = champion_predictor(name).predict(ads)
        found[name] = Served(answers, known[name].metrics, known[name].data_md5)
    return found


def _with_versions(observed: Observed, url: str | None) -> tuple[Observed, list[str]]:
    """Return every answer with a version, and warnings about them."""
    champion = Registry().champion()
    warnings = []
    versions = observed.versions
    if None in versions:
        deployment = active() if url is None else None
        silent = deployment.version if deployment else champion.version if champion else None
        if silent is None:
            raise ServingError(
                f"{observed.endpoint} does not say which version answers, and there is no "
                "champion to compare with: run `python run.py --pipeline training`"
            )
        versions = tuple(silent if version is None else version for version in versions)
        warnings.append(f"the endpoint does not say which version answers: taken for {silent}")
    if champion is not None and versions[-1] != champion.version:
        warnings.append(
            f"version {versions[-1]} serves, but the champion is version {champion.version}: "
            "run `demand serve`"
        )
    return replace(observed, versions=versions), warnings


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
        **{f"offline_{name}": beside[name] for name in _ERRORS},
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


def report(metrics: Mapping[str, Any]) -> str:
    """Return ``report.md``: the errors in production beside those of training, and the speed."""

    def shown(value: float | None) -> str:
        return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"

    training = metrics["training"]
    errors = [
        (
            name.upper(),
            shown(metrics[name]),
            f"{shown(metrics[f'{name}_low'])} – {shown(metrics[f'{name}_high'])}",
            shown(metrics[f"offline_{name}"]),
            shown(training.get(name)),
        )
        for name in _ERRORS
    ]
    endpoint = str(metrics["endpoint"]).replace("`", "%60")
    requests = f"{counted(metrics['requests'], 'request')} of up to {metrics['ads_per_request']}"
    speed = [
        ("latency of a request, median", f"{metrics['latency_ms_p50']:.1f} ms"),
        ("latency of a request, 99th percentile", f"{metrics['latency_ms_p99']:.1f} ms"),
        ("throughput", f"{metrics['throughput_ads_per_s']:,.0f} ads/s"),
    ]
    heads = ("error", "production", f"{metrics['confidence']:.0%} interval", "offline", "training")
    notes = bullets(metrics["warnings"]) or Markdown("None.")
    return f"""# Production evaluation

Version {escaped(metrics["model_version"])} of the model, at `{endpoint}`,
answered {counted(metrics["n"], "labelled ad")} over HTTP.

**{"Passed" if metrics["passed"] else "Refused"}**: {escaped(metrics["reason"])}.

Table 1: errors, lower is better. *Offline* is the registered model on the same ads, without a
server; *training* its test ads, before its refit on all ads. Intervals are drawn by seller.

{table(heads, errors)}

Table 2: speed of {requests} ads, one after another over one connection.

{table(("measure", "value"), speed)}

## Warnings

{notes}
"""
