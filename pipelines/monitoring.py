"""From the production log to a verdict on the champion."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from demand.production_log.config import MonitoringConfig
from orchestration.alerter import run_failed
from steps.monitoring import monitor


@pipeline(
    name="monitoring",
    execution_mode=ExecutionMode.FAIL_FAST,
    tags=["monitoring", "demand"],
    on_failure=run_failed,
)
def monitoring(config: MonitoringConfig, seed: int) -> None:
    """Read what was answered and what became of it; judge."""
    monitor(config, seed)
