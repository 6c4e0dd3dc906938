"""The step that judges what serves by what production says."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any

from zenml import step
from zenml.types import HTMLString

from demand.monitoring import monitor as core
from demand.monitoring.alerts import MODEL, alerts_of
from demand.monitoring.guard import roll_back_where_worse
from demand.production_log.config import MonitoringConfig
from demand.registry.tracking import tracked_run
from demand.workspace.workspace import write_json
from orchestration.alerter import tell
from orchestration.model_versions import follow_aliases
from orchestration.steps import REPORTS, noted, output, reported, shown

EXPERIMENT = "monitoring"


# Never cached: production changes without a change of any input.
@step(enable_cache=False)
def monitor(
    config: MonitoringConfig, seed: int
) -> tuple[
    Annotated[dict[str, Any], output("decision", "Verdict, findings, newest readings", "decision")],
    Annotated[HTMLString, output("monitoring", "All readings, with their plots", "report")],
    Annotated[Path, output(REPORTS, "The same as page, JSON and gauges", "report")],
]:
    """Read the production log, judge the champion, and log the figures to MLflow.

    Where a rule says so, the champion before takes over at once. People are told what holds.
    """
    with noted() as notes, reported() as reports:
        found = core.monitor(config, seed, datetime.datetime.now(datetime.UTC))
        page = shown(core.write_report(found, reports))
        decision = found.decision
        tags = {"verdict": decision.verdict, "decision": decision.id, "subject": decision.subject}
        with tracked_run("monitoring", tags=tags, experiment=EXPERIMENT) as run:
            readings = found.metrics["readings"].items()
            run.log_metrics({name: read["value"] for name, read in readings if "value" in read})
        notes |= tags
        tell(MODEL, alerts_of(decision))
        served = roll_back_where_worse(decision, found.version)
        if served is not None:
            follow_aliases(deployed=True)
            notes["rolled_back_to"] = served
            found.metrics["rolled_back_to"] = served
            write_json(reports / core.METRICS_FILE, found.metrics)
    return found.metrics, page, reports
