"""How good the deployed model is: labelled ads through its endpoint, and the Predictor beside.

What is measured is what a caller gets, with its JSON, its server and its network. The
answers must be those of the Predictor of the version that gave them: anything else means
that what serves is not what was checked and promoted, and the gate says no.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demand.config import GateSettings
from demand.data.flaws import ID, cleaned, complete, places, table_flaws
from demand.data.reading import read_ads
from demand.errors import AdsFileError, ServingError
from demand.evaluation.evaluate import GateDecision
from demand.evaluation.metrics import Floats, bootstrap_rmse, regression_metrics
from demand.progress import rows_shown
from demand.registry.model_files import load_predictor
from demand.registry.packaging import records
from demand.registry.registry import Registry
from demand.reports import markdown
from demand.reports.pages import environment
from demand.schema.columns import REQUEST_REQUIRED, TARGET
from demand.schema.error_text import counted
from demand.serving.client import Endpoint, token_from_environment
from demand.serving.deployment import active

GATE = "production"
REPORT_FILE = "report.md"
ADS_PER_REQUEST = 500
ERRORS = ("rmse", "mse", "mae")
# Beyond what the rounding of JSON and of 32-bit sums can explain.
RMSE_TOLERANCE = 1e-6
ANSWER_TOLERANCE = 1e-5
_FIGURES = (*ERRORS, "rmse_low", "rmse_high")


@dataclass(frozen=True)
class LabelledAds:
    """Typed ads with their target, shape (n, 18), n >= 1; their file's MD5 and flaws."""

    frame: pd.DataFrame
    data_md5: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Observed:
    """What the endpoint answered: probabilities, shape (n,), and the URL of the last answer.

    ``versions`` gave the n answers, None where it did not say; ``seconds`` is what each request
    took, shape (requests,).
    """

    answers: Floats
    versions: tuple[str | None, ...]
    seconds: Floats
    endpoint: str


@dataclass(frozen=True)
class Served:
    """A registered version: its Predictor's answers, shape (n,), and what it was trained with."""

    answers: Floats
    metrics: Mapping[str, float]
    data_md5: str


@dataclass(frozen=True)
class Evaluation:
    """Content of ``metrics.json``, the same as Markdown, and what the gate says."""

    metrics: dict[str, Any]
    report: str
    decision: GateDecision


def evaluate_endpoint(
    path: Path, url: str | None, rows: int, *, settings: GateSettings, seed: int, max_file_gb: float
) -> Evaluation:
    """Send labelled ads through the :func:`endpoint_at` a URL and judge the answers.

    So many ads are drawn from the file, with the seed; all where there are fewer. The settings
    have samples and confidence of the intervals.

    Raises
    ------
    AdsFileError
        The file cannot be read, or has no ad that can be measured on.
    ServingError
        Nothing is deployed, or it does not answer, or with an error, or wants a token.
    ModelError
        The files of the version that answered are damaged.
    """
    endpoint = endpoint_at(url)
    ads = labelled_ads(path, rows, seed, max_file_gb)
    # A deployment takes another port: what is given by hand stays, all else is followed.
    where_now = deployed_url if url is None else lambda: endpoint.url
    observed = observe(ads.frame, endpoint, where_now)
    observed, said = _with_versions(observed, url)
    served = _served(observed, ads.frame)
    return judge(ads, observed, served, settings=settings, seed=seed, warnings=said)


def labelled_ads(path: Path, rows: int, seed: int, max_file_gb: float = 8.0) -> LabelledAds:
    """Read labelled ads and draw some of them, in the order of the file.

    Cells that the schema does not allow count as missing; ads without a target, a title
    or a category are left out; both are counted in warnings. AdsFileError: that of
    :func:`demand.data.reading.read_ads`, or no ad is left.
    """
    loaded = read_ads(path, labelled=True, max_file_gb=max_file_gb)
    ads, flaws = cleaned(loaded)
    warnings = table_flaws(loaded).warnings() + flaws.warnings()
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
    return LabelledAds(frame, loaded.md5, tuple(warnings))


def observe(ads: pd.DataFrame, endpoint: Endpoint, where_now: Callable[[], str]) -> Observed:
    """Send ads through an endpoint, one request after the other, and close it.

    Of typed ads, shape (n, columns), target and ``item_id`` are not sent. The URL of what serves
    now is asked for when a request fails: where another server took over meanwhile, the request
    goes to that one. Errors are those of :meth:`demand.serving.client.Endpoint.ask`.
    """
    answers: list[float] = []
    versions: list[str | None] = []
    seconds: list[float] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(endpoint)
        show = stack.enter_context(rows_shown("ads answered", len(ads)))
        for first in range(0, len(ads), ADS_PER_REQUEST):
            sent = records(ads.iloc[first : first + ADS_PER_REQUEST].drop(columns=ID))
            try:
                reply = endpoint.ask(sent)
            except ServingError:
                now = where_now()
                if now == endpoint.url:
                    raise
                endpoint = stack.enter_context(Endpoint(now))
                reply = endpoint.ask(sent)
            answers += reply.answers
            versions += reply.versions
            seconds.append(reply.seconds)
            show(len(answers))
    return Observed(np.array(answers), tuple(versions), np.array(seconds), endpoint.url)


def endpoint_at(url: str | None) -> Endpoint:
    """Return the endpoint of a URL, or of the active deployment, which asks for no token.

    Requests to a URL carry the token of the environment variable ``DEMAND_API_TOKEN``, if
    that is set: the environment is no part of what ZenML or a report keeps. ServingError: it is
    no URL, or nothing is deployed; ConfigError: the token can be none.
    """
    if url is None:
        return Endpoint(deployed_url())
    return Endpoint(url, token=token_from_environment())


def deployed_url() -> str:
    """Return the URL of the active deployment; :class:`ServingError` where there is none."""
    deployment = active()
    if deployment is None:
        raise ServingError(
            "nothing is deployed: run `demand serve`, train with `python run.py --pipeline "
            "training`, or name an endpoint with --url"
        )
    return deployment.endpoint


def _served(observed: Observed, ads: pd.DataFrame) -> dict[str, Served | None]:
    """Return each version that answered, in order; None where the registry has none such."""
    known = {version.version: version for version in Registry().versions()}
    found: dict[str, Served | None] = {}
    for name in dict.fromkeys(map(str, observed.versions)):
        found[name] = None
        if version := known.get(name):
            answers = load_predictor(version).predict(ads)
            found[name] = Served(answers, version.metrics, version.data_md5)
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
    """Measure n answers to n ads, and compare each with the Predictor of its own version.

    Intervals are drawn by seller. Warnings found before are reported with those found here.
    """
    actual = ads.frame[TARGET].to_numpy(dtype=np.float64)
    # NaN where the registry has no such version.
    offline = np.full(len(actual), np.nan)
    for row, version in enumerate(map(str, observed.versions)):
        if (registered := served[version]) is not None:
            offline[row] = registered.answers[row]
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
    return Evaluation(metrics, _report(metrics), decision)


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
    figures, groups = regression_metrics(actual, answers), sellers.to_numpy()
    samples, confidence = settings.bootstrap_samples, settings.confidence
    drawn = partial(
        bootstrap_rmse, samples=samples, confidence=confidence, seed=seed, groups=groups
    )
    rmse = drawn(actual, answers)
    # The RMSE of the roots of absolute errors is the root of their mean.
    root_mae = drawn(np.zeros(len(actual)), np.sqrt(np.abs(answers - actual)))
    for name, interval, power in (("rmse", rmse, 1), ("mse", rmse, 2), ("mae", root_mae, 2)):
        figures[f"{name}_low"] = interval.low**power
        figures[f"{name}_high"] = interval.high**power
    return figures


def error_table(metrics: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return heads and rows of the errors, as they are shown to people."""

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.4f}"

    heads = ("error", "production", f"{metrics['confidence']:.0%} interval", "offline", "training")
    rows: list[tuple[str, ...]] = [
        (
            name.upper(),
            shown(metrics[name]),
            f"{shown(metrics[f'{name}_low'])} – {shown(metrics[f'{name}_high'])}",
            shown(metrics[f"offline_{name}"]),
            shown(metrics["training"].get(name)),
        )
        for name in ERRORS
    ]
    return heads, rows


def _report(metrics: Mapping[str, Any]) -> str:
    """Return ``report.md``: the errors in production beside those of training, and the speed."""
    template = environment().overlay(finalize=markdown.escaped).get_template("production.md.j2")
    endpoint = markdown.Markdown(str(metrics["endpoint"]).replace("`", "%60"))
    given = {**metrics, "endpoint": endpoint}
    return template.render(given, md=markdown, errors=error_table(metrics)) + "\n"
