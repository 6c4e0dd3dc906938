"""All checks of a model on its test rows.

Behaviour (:mod:`.behaviour`), error by slice (:mod:`.slices`) and Giskard's scan
(:mod:`.giskard_scan`). The config names the critical ones: their failure stops the
pipeline, any other is a warning.
"""

from __future__ import annotations

import contextlib
import difflib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd

from demand.config import CheckSettings
from demand.errors import AdsFileError, ConfigError
from demand.evaluation.behaviour import BEHAVIOUR_NAMES, Finding, ModelUnderTest, behaviour_checks
from demand.evaluation.giskard_scan import SCAN_NAMES, giskard_session, run_scan, run_suite
from demand.evaluation.metrics import Floats
from demand.evaluation.slices import SLICE_NAMES, judged_slices, reported_slices, slice_checks

if TYPE_CHECKING:
    from demand.model.predictor import Predictor

CHECK_NAMES: tuple[str, ...] = (*BEHAVIOUR_NAMES, *SLICE_NAMES, *SCAN_NAMES)


@dataclass(frozen=True)
class CheckReport:
    """What the checks found, one finding for each that ran, in a fixed order.

    ``slices`` and ``reported`` are :func:`.slices.judged_slices` and
    :func:`.slices.reported_slices`, None where the model gave no answers; ``suite_html`` is
    Giskard's own report of the suite, a fragment, and ``scan_html`` the page of its scan,
    None where it was off or could not start.
    """

    findings: tuple[Finding, ...]
    slices: pd.DataFrame | None
    reported: pd.DataFrame | None
    suite_html: str | None = None
    scan_html: str | None = None

    @property
    def failed(self) -> tuple[Finding, ...]:
        """All failed checks."""
        return tuple(finding for finding in self.findings if not finding.passed)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Failed checks that are not critical."""
        return tuple(finding for finding in self.failed if not finding.critical)

    @property
    def refusal(self) -> str | None:
        """One line that names the critical failures, or None without any."""
        critical = (finding for finding in self.failed if finding.critical)
        return "; ".join(f"{finding.name}: {finding.detail}" for finding in critical) or None


def require_known(settings: CheckSettings) -> None:
    """Demand that every critical check exists and will run.

    It is a :class:`ConfigError` where ``checks.critical`` names no check (the near ones are
    suggested), or one of the scan's while ``checks.giskard_scan`` is false.
    """
    for name in settings.critical:
        if name not in CHECK_NAMES:
            near = difflib.get_close_matches(name, CHECK_NAMES, n=3, cutoff=0.5)
            known = ", ".join(CHECK_NAMES)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {known}"
            raise ConfigError(f"checks.critical names {name!r}, but there is no such check; {hint}")
        if name in SCAN_NAMES and not settings.giskard_scan:
            raise ConfigError(
                f"checks.critical names {name!r}, which is part of Giskard's scan, but "
                "checks.giskard_scan is false: switch the scan on, or take the name out"
            )


def behaviour_only(settings: CheckSettings) -> CheckSettings:
    """Return the settings without Giskard's scan, for a model whose twin was scanned."""
    critical = [name for name in settings.critical if name not in SCAN_NAMES]
    return settings.model_copy(update={"giskard_scan": False, "critical": critical})


def run_checks(
    model: Predictor,
    test: pd.DataFrame,
    settings: CheckSettings,
    *,
    train: pd.DataFrame | None = None,
    baseline_predicted: Floats | None = None,
) -> CheckReport:
    """Check a model on labelled test rows.

    A model that raises fails the checks, it does not end them. ``train`` has the training
    rows' ``SEEN_COLUMNS``, to say of a slice how many of them the model has seen;
    ``baseline_predicted`` the predictions of the report's MLP for the same test rows, shape
    (n,), to compare with on the slices where the old report was weak. That there is no test row
    is an :class:`AdsFileError`; for the settings see :func:`require_known`.
    """
    require_known(settings)
    if test.empty:
        raise AdsFileError("there is no test row to check the model on: give more ads")
    under_test = ModelUnderTest(model, test)

    @cache
    def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
        predicted = under_test.predicted
        judged = judged_slices(test, predicted, train)
        return judged, reported_slices(test, predicted, baseline_predicted)

    checks = [*behaviour_checks(under_test, settings), *slice_checks(tables, settings)]
    suite_html = scan_html = None
    if settings.giskard_scan:
        with giskard_session() as giskard:
            findings, suite_html = run_suite(giskard, checks, settings.critical)
            scanned, scan_html = run_scan(giskard, under_test, test, settings)
        findings += scanned
    else:
        findings = [check.run(settings.critical) for check in checks]
    slices = reported = None
    with contextlib.suppress(Exception):  # the model's, which the findings tell
        slices, reported = tables()
    return CheckReport(tuple(findings), slices, reported, suite_html, scan_html)
