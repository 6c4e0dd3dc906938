"""All checks of a model on its test rows, and the report of them.

Behaviour (:mod:`demand.checks.behaviour`), error by slice (:mod:`demand.checks.error_slices`) and
Giskard's scan (:mod:`demand.checks.giskard_scan`). The config names the critical ones: their
failure stops the pipeline, any other is a warning.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from demand.checks.behaviour import BEHAVIOUR_NAMES, behaviour_checks
from demand.checks.error_slices import (
    SLICE_NAMES,
    ReportedSlice,
    judged_slices,
    reported_check,
    reported_slices,
    slice_checks,
)
from demand.checks.giskard_scan import LEFT_OUT, SCAN_NAMES, Scan, run_scan
from demand.checks.giskard_session import giskard_session, run_suite
from demand.checks.page import BASELINE, checks_page
from demand.checks.probe import Check, Finding, Floats, Model, Probe
from demand.config import CheckSettings
from demand.errors import AdsFileError, ConfigError, ModelError
from demand.state import write_aside

__all__ = [
    "CHECK_NAMES",
    "CheckReport",
    "Finding",
    "Model",
    "require_known",
    "run_checks",
]

CHECK_NAMES: tuple[str, ...] = (*BEHAVIOUR_NAMES, *SLICE_NAMES, *SCAN_NAMES)


@dataclass(frozen=True)
class CheckReport:
    """What the checks found, and where it can be read.

    Parameters
    ----------
    findings
        One for each check that ran, in a fixed order.
    html
        The overview page.
    scan_html
        Giskard's own page, or None when the scan was off or could not start.
    """

    findings: tuple[Finding, ...]
    html: Path
    scan_html: Path | None

    @property
    def failed(self) -> tuple[Finding, ...]:
        """All failed checks."""
        return tuple(finding for finding in self.findings if not finding.passed)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Failed checks that do not."""
        return tuple(finding for finding in self.failed if not finding.critical)

    @property
    def refusal(self) -> str | None:
        """One line that names the critical failures, or None without any."""
        return _refusal(self.findings)


def require_known(settings: CheckSettings) -> None:
    """Demand that every critical check exists and will run.

    Raises
    ------
    ConfigError
        ``checks.critical`` names no check (the near ones are suggested), or one of the
        scan's while ``checks.giskard_scan`` is false.
    """
    for name in settings.critical:
        if name not in CHECK_NAMES:
            near = difflib.get_close_matches(name, CHECK_NAMES, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {_listed()}"
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
    model: Model,
    test: pd.DataFrame,
    settings: CheckSettings,
    reports: Path,
    *,
    train: pd.DataFrame | None = None,
    baseline_predicted: Floats | None = None,
) -> CheckReport:
    """Check a model on labelled test rows; write ``checks.html`` and ``giskard_scan.html``.

    Parameters
    ----------
    model
        The model under test; one that raises fails the checks, it does not end them.
    test
        Typed ads with the target, n of them.
    settings
        Bounds, and which checks are critical.
    reports
        Folder of the two pages; an old scan page is removed when there is no new one.
    train
        Training rows: the page says of a slice how many of them the model has seen.
    baseline_predicted
        The report's MLP's predictions of the same test rows, shape (n,): shown beside
        the model's on the slices where the old report was weak.

    Raises
    ------
    ConfigError
        See :func:`require_known`.
    AdsFileError
        There is no test row.
    ModelError
        The report's MLP predicted another number of rows.
    StateError
        A page cannot be written.
    """
    require_known(settings)
    if test.empty:
        raise AdsFileError("there is no test row to check the model on: give more ads")
    if baseline_predicted is not None and len(baseline_predicted) != len(test):
        raise ModelError(
            f"{BASELINE} has {len(baseline_predicted)} predictions for {len(test)} test rows"
        )
    probe = Probe(model, test)

    @cache
    def slices() -> pd.DataFrame:
        return judged_slices(test, probe.predicted, train)

    @cache
    def reported() -> tuple[ReportedSlice, ...]:
        return reported_slices(test, probe.predicted, baseline_predicted)

    checks = [
        *behaviour_checks(probe, settings),
        *slice_checks(slices, settings),
        reported_check(reported),
    ]
    findings, suite_html, scan = _run(checks, probe, test, settings)
    answers = _answers(probe)
    page = checks_page(
        findings,
        None if answers is None else slices(),
        () if answers is None else reported(),
        refusal=_refusal(findings),
        suite_html=suite_html,
        notes=_notes(scan),
    )
    html, scan_html = reports / "checks.html", reports / "giskard_scan.html"
    _write(html, page)
    if scan is None or scan.html is None:
        scan_html.unlink(missing_ok=True)
        return CheckReport(findings, html, None)
    _write(scan_html, scan.html)
    return CheckReport(findings, html, scan_html)


def _run(
    checks: list[Check], probe: Probe, test: pd.DataFrame, settings: CheckSettings
) -> tuple[tuple[Finding, ...], str | None, Scan | None]:
    """Run the checks: inside Giskard with its scan, or by themselves without it."""
    if not settings.giskard_scan:
        return tuple(check.run(settings.critical) for check in checks), None, None
    with giskard_session() as giskard:
        findings, suite_html = run_suite(giskard, checks, settings.critical)
        scan = run_scan(giskard, probe, test, settings)
    return (*findings, *scan.findings), suite_html, scan


def _answers(probe: Probe) -> Floats | None:
    """Return the predictions of all test rows; None if the model raises, as findings say."""
    try:
        return probe.predicted
    except Exception:
        return None


def _notes(scan: Scan | None) -> tuple[str, ...]:
    if scan is None:
        return ("Not run: checks.giskard_scan is false in the config.",)
    if scan.html is None:
        return ("Giskard could not start its scan; the findings above say why.",)
    return ("Its own page, with examples: giskard_scan.html beside this one. Left out:", *LEFT_OUT)


def _refusal(findings: tuple[Finding, ...]) -> str | None:
    failures = [f for f in findings if f.critical and not f.passed]
    if not failures:
        return None
    return "; ".join(f"{failure.name}: {failure.detail}" for failure in failures)


def _write(path: Path, text: str) -> None:
    with write_aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _listed() -> str:
    return ", ".join(CHECK_NAMES)
