"""Ask the model how it behaves; a critical failure stops the pipeline."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import pandas as pd
from zenml import log_metadata, step
from zenml.types import HTMLString

from demand.checks.run import run_checks
from demand.config import CheckSettings
from demand.evaluation.reports_mlp import ReportsMLP
from demand.predictor import Predictor
from demand.state import reports_folder
from steps.common import CACHED, REPORTS, publish, refuse, timed


@step(cache_policy=CACHED)
def check(
    predictor: Predictor,
    training_ads: pd.DataFrame,
    test_ads: pd.DataFrame,
    baseline_answers: pd.DataFrame,
    settings: CheckSettings,
) -> tuple[
    Annotated[list[str], "warnings"],
    Annotated[HTMLString, "checks"],
    Annotated[HTMLString, "giskard_scan"],
    Annotated[Path, REPORTS],
]:
    """Run the domain's tests and Giskard's scan."""
    with timed():
        reports = Path(tempfile.mkdtemp())
        found = run_checks(
            predictor,
            test_ads,
            settings,
            reports,
            train=training_ads,
            baseline_predicted=baseline_answers[ReportsMLP.NAME].to_numpy(),
        )
        publish(reports, reports_folder("training"))
        log_metadata({"failed_checks": [finding.name for finding in found.failed]})
        page = HTMLString(found.html.read_text(encoding="utf-8"))
        scan = HTMLString(
            found.scan_html.read_text(encoding="utf-8") if found.scan_html else "no scan asked for"
        )
        if found.refusal is not None:
            refuse("checks", found.refusal, checks=page, giskard_scan=scan)
    warnings = [f"{finding.name}: {finding.detail}" for finding in found.warnings]
    return warnings, page, scan, reports
