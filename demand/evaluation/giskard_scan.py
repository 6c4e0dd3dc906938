"""Giskard 2: our checks as its suite, and its own scan of a model.

The scan looks for weak slices, sensitivity to spelling and price, and leakage. Left alone,
Giskard sends analytics, looks for plug-ins in a folder of the user's home, puts a handler on
the root logger, prints, and draws from numpy's global random state.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from demand.config import CheckSettings
from demand.evaluation.behaviour import Check, Finding, ModelUnderTest, Outcome, one_line
from demand.progress import report
from demand.schema.columns import COLUMN, TARGET

SEED = 42
LEAKAGE_ROWS = 30  # asked one by one; Giskard itself adds some 30 ms to each
PERFORMANCE_ROWS_MIN = 100  # giskard.scanner.common.loss_based_detector.MIN_DATASET_LENGTH
# Giskard's own bounds (5 %) call the noise of 30 rows an issue. Major is twice the threshold.
EXCESS_ERROR = 0.25  # of a slice's MSE or MAE over that of all rows: medium from 25 %, major 50 %
EXCESS_CHANGE = 0.2  # a prediction has changed when it moved by a fifth of itself

_TEXTS = ("title", "description")
_CATEGORIES = ("parent_category_name", "category_name")
_TEXT_COLUMNS = tuple(name for name, column in COLUMN.items() if column.kind == "text")
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


# Giskard's detectors: the columns that each looks at, and what is demanded.
_DETECTORS: dict[str, tuple[tuple[str, ...], str]] = {
    "performance_bias": (
        ("region", *_CATEGORIES, "user_type", "price", "item_seq_number"),
        f"no slice of 5 % of the rows or more with {EXCESS_ERROR:.0%} more error than all",
    ),
    "text_perturbation": (
        _TEXTS,
        f"no case, typos, punctuation that move predictions by {EXCESS_CHANGE:.0%} of themselves",
    ),
    "numerical_perturbation": (
        ("price",),
        f"no 1 % of the price that moves predictions by {EXCESS_CHANGE:.0%} of themselves",
    ),
    "stochasticity": (("title",), "the same ads, asked twice, get the same answers"),
    "data_leakage": (("title",), "an ad alone gets the same answer as in a batch"),
}
_NO_MEDIUM = ("stochasticity", "data_leakage")  # issue of theirs is tolerated either
SCAN_NAMES = tuple(f"scan_{tag}" for tag in _DETECTORS)


@contextlib.contextmanager
def giskard_session() -> Iterator[Any]:
    """Yield Giskard: quiet, seeded, offline; all it touches is put back afterwards.

    Settings of Giskard are read from the environment when it is imported, so the
    variables are set around the first import.
    """
    root, own = logging.getLogger(), logging.getLogger("giskard")
    handlers, silence = list(root.handlers), logging.NullHandler()
    legacy, plain = np.random.get_state(), random.getstate()
    with (
        tempfile.TemporaryDirectory(prefix="giskard-") as folder,
        mock.patch.dict(os.environ, {"GSK_DISABLE_ANALYTICS": "True", "GSK_HOME": folder}),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            import giskard
            from giskard.settings import settings

            settings.disable_analytics = True  # also where another import came first
            root.handlers[:] = handlers
            own.addHandler(silence)
            own.propagate = False
            np.random.seed(SEED)
            random.seed(SEED)
            yield giskard
        finally:
            root.handlers[:] = handlers
            own.removeHandler(silence)
            own.propagate = True
            np.random.set_state(legacy)
            random.setstate(plain)


def run_suite(
    giskard: Any, checks: Sequence[Check], critical: Sequence[str]
) -> tuple[list[Finding], str]:
    """Run our checks as a Giskard suite.

    Returns the findings in the order of ``checks``, and Giskard's report, a fragment of HTML.
    """
    from giskard.core.test_result import TestMessage, TestMessageLevel, TestResult
    from giskard.visualization.widget import TestSuiteResultWidget

    found: dict[str, Finding] = {}
    stopped: list[BaseException] = []

    def behaviour(check: Any) -> Any:
        if stopped:
            raise stopped[0]
        try:
            finding = found[check.name] = check.run(critical)
        except BaseException as stop:  # Ctrl-C, which the suite would swallow
            stopped.append(stop)
            raise
        message = TestMessage(type=TestMessageLevel.INFO, text=finding.detail)
        return TestResult(passed=finding.passed, metric=finding.value, messages=[message])

    suite = giskard.Suite("behaviour")
    as_test = giskard.test(behaviour)
    for check in checks:
        suite.add_test(as_test(check=check), check.name, check.name)
    result = suite.run(verbose=False)
    if stopped:
        raise stopped[0]
    # Giskard swallows what its own machinery raises; no check may get lost in there.
    findings = [found.get(check.name) or check.run(critical) for check in checks]
    return findings, str(TestSuiteResultWidget(result).render_html())


def run_scan(
    giskard: Any, model: ModelUnderTest, test: pd.DataFrame, settings: CheckSettings
) -> tuple[list[Finding], str | None]:
    """Scan the model on at most ``settings.scan_rows`` of the test rows, drawn with a seed.

    A detector that finds a major issue, or raises, is a failed finding; nothing is raised.
    Returns a finding a detector, and Giskard's page; None where it cannot wrap the model and
    its ads.
    """
    rows = test.sample(min(len(test), settings.scan_rows), random_state=SEED)
    issues: list[Any] = []

    @cache
    def wrapped() -> _Wrapped:
        return _Wrapped(giskard, model, giskard_frame(rows))

    def measure(tag: str) -> Outcome:
        if tag == "performance_bias" and len(rows) < PERFORMANCE_ROWS_MIN:
            few = f"Giskard needs {PERFORMANCE_ROWS_MIN} rows, there are {len(rows)}"
            return True, f"not run: {few}", None
        found = wrapped().scan(tag)
        issues.extend(found)
        if not found:
            return True, "no issue", 0.0
        major = sum(issue.is_major for issue in found)
        worst = max(found, key=lambda issue: (issue.is_major, issue.importance))
        words = f"{major} major of {len(found)} issues, the worst: {one_line(worst.description)}"
        return not major and tag not in _NO_MEDIUM, words, float(major)

    findings = []
    for done, (tag, (_, demanded)) in enumerate(_DETECTORS.items()):
        report(done, len(_DETECTORS), f"scan_{tag}")
        check = Check(f"scan_{tag}", demanded, partial(measure, tag))
        findings.append(check.run(settings.critical))
    try:
        scanned = wrapped()
    except Exception:  # Giskard's, which the findings tell
        return findings, None
    return findings, scanned.page(issues)


def giskard_frame(ads: pd.DataFrame) -> pd.DataFrame:
    """Return ads with missing text as ``""``: Giskard compares None as changed."""
    texts = ads[[name for name in _TEXT_COLUMNS if name in ads]]
    return ads.assign(**texts.astype(object).where(texts.notna(), "")).reset_index(drop=True)


def typed_ads(frame: pd.DataFrame) -> pd.DataFrame:
    """Undo :func:`giskard_frame`: empty text is missing again."""
    texts = frame[[name for name in _TEXT_COLUMNS if name in frame]]
    return frame.assign(**texts.astype(object).where(texts != "", None))


class _Wrapped:
    """The model and its ads in Giskard's own classes."""

    def __init__(self, giskard: Any, model: ModelUnderTest, frame: pd.DataFrame) -> None:
        self._giskard = giskard
        names = [str(name) for name in frame if name != TARGET]
        kinds = {name: _giskard_kind(name) for name in names}
        wrap = partial(giskard.Model, model_type="regression", feature_names=names, name="demand")
        self._model = wrap(lambda ads: model.predict(typed_ads(ads)))
        self._upright = wrap(lambda ads: model.predict(typed_ads(ads))[:, np.newaxis])
        self._all, self._few = (
            giskard.Dataset(rows, target=TARGET, column_types=dict(kinds), name="test rows")
            for rows in (frame, frame.head(LEAKAGE_ROWS))
        )

    def scan(self, tag: str) -> list[Any]:
        """Run one detector; whatever it raises is raised here."""
        from giskard.scanner.robustness import text_transformations as texts
        from giskard.scanner.stochasticity import StochasticityDetector

        # Giskard 2.19 reduces the last axis: of a regression's (n,) answers that leaves one
        # value, and the detector raises KeyError where it should report. Its scan accepts
        # only (n,), so the detector is called without it, on answers of shape (n, 1).
        if tag == "stochasticity":
            return list(StochasticityDetector().run(self._upright, self._all))
        # Left out: accents, which for Giskard includes the one on й, and numbers to words.
        transformations = [
            *(texts.TextUppercase, texts.TextLowercase, texts.TextTitleCase),
            *(texts.TextTypoTransformation, texts.TextPunctuationRemovalTransformation),
        ]
        change = {"output_sensitivity": EXCESS_CHANGE}
        scanned = self._giskard.scan(
            self._model,
            self._few if tag == "data_leakage" else self._all,
            features=list(_DETECTORS[tag][0]),
            params={
                "performance_bias": {"threshold": EXCESS_ERROR},
                "text_perturbation": {"transformations": transformations, **change},
                "numerical_perturbation": change,
            },
            only=[tag],
            verbose=False,
            raise_exceptions=True,
        )
        return list(scanned.issues)

    def page(self, issues: Sequence[Any]) -> str:
        """Return Giskard's page of all issues, forbidden to load anything from outside."""
        from giskard.scanner.report import ScanReport

        tags = list(_DETECTORS)
        page = ScanReport(list(issues), self._model, self._all, detectors_names=tags).to_html()
        return str(page).replace("<head>", f"<head>\n{_POLICY}", 1)


def _giskard_kind(name: str) -> str:
    if name not in _TEXT_COLUMNS:
        return "category" if COLUMN[name].kind == "date" else "numeric"
    # As a category Giskard would list all values of an id each time it copies the rows.
    return "text" if name in (*_TEXTS, "item_id", "user_id", "city", "image") else "category"
