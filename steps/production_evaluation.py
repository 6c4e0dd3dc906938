"""Measure the deployed model, and refuse it where it is not the registered one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

from zenml import log_metadata, step
from zenml.types import HTMLString

from demand.config import GateSettings
from demand.evaluation.markdown import markdown_page
from demand.reporting import METRICS_FILE
from demand.serving.production import evaluate_endpoint
from demand.serving.production_report import REPORT_FILE
from demand.state import write_aside, write_json
from steps.common import REPORTS, pipeline_reports, publish, refuse, timed


# Never cached: what serves changes without a change of any input.
@step(enable_cache=False)
def production_evaluation(
    path: str, url: str | None, rows: int, settings: GateSettings, seed: int, max_file_gb: float
) -> tuple[
    Annotated[dict[str, Any], "metrics"],
    Annotated[HTMLString, "production_evaluation"],
    Annotated[Path, REPORTS],
]:
    """Send labelled ads through the endpoint, and publish what came of it."""
    with timed():
        found = evaluate_endpoint(
            Path(path), url, rows, settings=settings, seed=seed, max_file_gb=max_file_gb
        )
        reports = Path(tempfile.mkdtemp())
        write_json(reports / METRICS_FILE, found.metrics)
        with write_aside(reports / REPORT_FILE) as aside:
            aside.write_text(found.report, encoding="utf-8")
        publish(reports, pipeline_reports())
        shown = HTMLString(markdown_page(found.report, "Production evaluation", {}))
        log_metadata({name: found.metrics[name] for name in ("rmse", "mse", "mae", "n")})
        if not found.decision.passed:
            refuse(found.decision.gate, found.decision.reason, production_evaluation=shown)
    return found.metrics, shown, reports
