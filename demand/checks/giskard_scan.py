"""Giskard's own scan of a model: weak slices, sensitivity to spelling and price, leakage."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from demand.ads import COLUMN, TARGET
from demand.checks.giskard_session import SEED
from demand.checks.probe import Finding, Floats, Probe, one_line
from demand.config import CheckSettings

LEAKAGE_ROWS = 30  # asked one by one; Giskard itself adds some 30 ms to each
LEAKAGE_BUDGET_S = 5.0
PERFORMANCE_ROWS_MIN = 100  # giskard.scanner.common.loss_based_detector.MIN_DATASET_LENGTH
# Giskard's own bounds (5 %) call the noise of 30 rows an issue. Major is twice the threshold.
EXCESS_ERROR = 0.25  # of a slice's MSE or MAE over that of all rows: medium from 25 %, major 50 %
EXCESS_CHANGE = 0.2  # a prediction has changed when it moved by a fifth of itself

_TEXTS = ("title", "description")
# Scripts that the page carries itself may run (its tabs need them); nothing may be fetched.
_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">"
)

LEFT_OUT = (
    "ethical_bias: its dictionaries of genders, religions and countries are English and French.",
    "overconfidence, underconfidence, spurious_correlation: Giskard has them for classifiers only.",
    "The detectors that ask a language model: there is none here, and no network.",
    "Slices by words of the texts: hardly a word is in 5 % of the ads, and Giskard detects the "
    "language of each text for them, which takes longer than all else.",
    "image_top_1 is not perturbed: it numbers classes, so 1 % more is another class.",
)


@dataclass(frozen=True)
class Detector:
    """One of Giskard's detectors: its tag, the columns it looks at, and its parameters."""

    tag: str
    columns: tuple[str, ...]
    looks_for: str
    tolerates_medium: bool = True

    @property
    def name(self) -> str:
        """Name of its finding."""
        return f"scan_{self.tag}"


DETECTORS = (
    Detector(
        "performance_bias",
        (
            "region",
            "parent_category_name",
            "category_name",
            "user_type",
            "price",
            "item_seq_number",
        ),
        f"slices of 5 % of the rows or more with {EXCESS_ERROR:.0%} more error than all",
    ),
    Detector(
        "text_perturbation",
        _TEXTS,
        f"case, typos, punctuation that move predictions by {EXCESS_CHANGE:.0%} of themselves",
    ),
    Detector(
        "numerical_perturbation",
        ("price",),
        f"1 % of the price that moves predictions by {EXCESS_CHANGE:.0%} of themselves",
    ),
    Detector("stochasticity", ("title",), "the same ads, asked twice, get two answers", False),
    Detector("data_leakage", ("title",), "an ad alone gets another answer than in a batch", False),
)
SCAN_NAMES = tuple(detector.name for detector in DETECTORS)


@dataclass(frozen=True)
class Scan:
    """The scan's findings, one a detector, and Giskard's page (None when nothing ran)."""

    findings: tuple[Finding, ...]
    html: str | None


def run_scan(giskard: Any, probe: Probe, test: pd.DataFrame, settings: CheckSettings) -> Scan:
    """Scan the model on at most ``settings.scan_rows`` of the test rows, drawn with a seed.

    A detector that finds a major issue, or raises, is a failed finding; nothing is raised.
    """
    rows = test.sample(min(len(test), settings.scan_rows), random_state=SEED)
    try:
        wrapped = _Wrapped(giskard, probe, giskard_frame(rows))
    except Exception as error:
        reason = f"Giskard cannot wrap the model and its ads: {one_line(error)}"
        return Scan(tuple(_finding(d, settings, False, reason) for d in DETECTORS), None)
    issues: list[Any] = []
    findings: list[Finding] = []
    for detector in DETECTORS:
        reason_not = _why_not(detector, rows, probe, settings)
        if reason_not:
            findings.append(_finding(detector, settings, True, f"not run: {reason_not}"))
            continue
        try:
            found = wrapped.scan(detector)
        except Exception as error:
            reason = f"Giskard's detector raised {type(error).__name__}: {one_line(error)}"
            findings.append(_finding(detector, settings, False, reason))
            continue
        issues += found
        findings.append(_judge(detector, settings, found))
    return Scan(tuple(findings), wrapped.page(issues))


def _finding(
    detector: Detector,
    settings: CheckSettings,
    passed: bool,
    words: str,
    value: float | None = None,
) -> Finding:
    critical = detector.name in settings.critical
    detail = f"{words} (looks for: {detector.looks_for})"
    return Finding(detector.name, passed, critical, detail, "scan", value)


def _judge(detector: Detector, settings: CheckSettings, issues: Sequence[Any]) -> Finding:
    major = [issue for issue in issues if issue.is_major]
    if not issues:
        return _finding(detector, settings, True, "no issue", 0.0)
    worst = max(issues, key=lambda issue: (issue.is_major, issue.importance))
    words = f"{len(major)} major of {len(issues)} issues, the worst: {one_line(worst.description)}"
    passed = detector.tolerates_medium and not major
    return _finding(detector, settings, passed, words, float(len(major)))


def _why_not(
    detector: Detector, rows: pd.DataFrame, probe: Probe, settings: CheckSettings
) -> str | None:
    """Say why a detector is not worth running here, or None."""
    if not any(column in rows for column in detector.columns):
        return "the test rows have none of its columns"
    if detector.tag == "performance_bias" and len(rows) < PERFORMANCE_ROWS_MIN:
        return f"Giskard needs {PERFORMANCE_ROWS_MIN} rows, there are {len(rows)}"
    if detector.tag != "data_leakage" or detector.name in settings.critical:
        return None
    one = probe.ads.head(1)
    try:
        probe.predict(one)  # the first call may load what later ones share
        start = time.perf_counter()
        probe.predict(one)
    except Exception:
        return None  # the detector meets the same error and reports it
    cost = (time.perf_counter() - start) * LEAKAGE_ROWS
    if cost <= LEAKAGE_BUDGET_S:
        return None
    return (
        f"it asks for {LEAKAGE_ROWS} ads one by one, {cost:.0f} s for this model; "
        f"name {detector.name} in checks.critical to run it all the same"
    )


def giskard_frame(ads: pd.DataFrame) -> pd.DataFrame:
    """Return the known columns with missing text as ``""``: Giskard compares None as changed."""
    frame = ads[[name for name in COLUMN if name in ads]].reset_index(drop=True)
    for name in frame:
        if COLUMN[str(name)].kind == "text":
            frame[name] = frame[name].astype(object).where(frame[name].notna(), "")
    return frame


def typed_ads(frame: pd.DataFrame) -> pd.DataFrame:
    """Undo :func:`giskard_frame`: empty text is missing again."""
    ads = frame.copy()
    for name in ads:
        if COLUMN[str(name)].kind == "text":
            ads[name] = ads[name].astype(object).where(ads[name] != "", None)
    return ads


class _Wrapped:
    """The model and its ads in Giskard's own classes."""

    def __init__(self, giskard: Any, probe: Probe, frame: pd.DataFrame) -> None:
        self._giskard = giskard
        columns = [str(name) for name in frame if name != TARGET]
        kinds = {name: _giskard_kind(name) for name in columns}

        def wrap(function: Callable[[pd.DataFrame], Floats]) -> Any:
            return giskard.Model(
                function, model_type="regression", feature_names=columns, name="demand"
            )

        def dataset(rows: pd.DataFrame) -> Any:
            return giskard.Dataset(rows, target=TARGET, column_types=dict(kinds), name="test rows")

        self._model = wrap(lambda ads: probe.predict(typed_ads(ads)))
        self._upright = wrap(lambda ads: probe.predict(typed_ads(ads))[:, np.newaxis])
        self._all = dataset(frame)
        self._few = dataset(frame.head(LEAKAGE_ROWS))
        self._columns = columns

    def scan(self, detector: Detector) -> list[Any]:
        """Run one detector; whatever it raises is raised here."""
        if detector.tag == "stochasticity":
            return self._stochasticity()
        from giskard.scanner.robustness import text_transformations as texts

        # Left out: accents, which for Giskard includes the one on й, and numbers to words.
        transformations = [
            texts.TextUppercase,
            texts.TextLowercase,
            texts.TextTitleCase,
            texts.TextTypoTransformation,
            texts.TextPunctuationRemovalTransformation,
        ]
        parameters: dict[str, dict[str, Any]] = {
            "performance_bias": {"threshold": EXCESS_ERROR},
            "text_perturbation": {
                "transformations": transformations,
                "output_sensitivity": EXCESS_CHANGE,
            },
            "numerical_perturbation": {"output_sensitivity": EXCESS_CHANGE},
        }
        report = self._giskard.scan(
            self._model,
            self._few if detector.tag == "data_leakage" else self._all,
            features=[name for name in detector.columns if name in self._columns],
            params=parameters,
            only=[detector.tag],
            verbose=False,
            raise_exceptions=True,
        )
        return list(report.issues)

    def _stochasticity(self) -> list[Any]:
        """Run Giskard's detector on answers of shape (n, 1).

        Giskard 2.19 reduces the last axis: of a regression's (n,) answers that leaves one
        value, and the detector raises KeyError where it should report. Its scan accepts
        only (n,), so the detector is called without it.
        """
        from giskard.scanner.stochasticity import StochasticityDetector

        return list(StochasticityDetector().run(self._upright, self._all))

    def page(self, issues: Sequence[Any]) -> str:
        """Return Giskard's page of all issues, forbidden to load anything from outside."""
        from giskard.scanner.report import ScanReport

        tags = [detector.tag for detector in DETECTORS]
        report = ScanReport(list(issues), self._model, self._all, detectors_names=tags)
        return str(report.to_html()).replace("<head>", f"<head>\n{_POLICY}", 1)


def _giskard_kind(name: str) -> str:
    if COLUMN[name].kind in ("number", "integer"):
        return "numeric"
    # As a category Giskard would list all values of an id each time it copies the rows.
    many_values = ("item_id", "user_id", "city", "image")
    return "text" if name in _TEXTS or name in many_values else "category"
