"""What ``configs/monitoring.yaml`` may say."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from demand.config import Count, Positive, Settings


class LogSettings(Settings):
    """How much of what was answered is kept; the file says what each means."""

    queue_ads: Count = 20_000
    segment_mb: Positive = 32.0
    max_gb: Positive = 2.0
    retention_days: Count = 400


class MonitoringSettings(Settings):
    """When an answer can be compared with what became of its ad."""

    maturity_days: Annotated[float, Field(ge=0.0)] = 30.0


class MonitoringConfig(Settings):
    """All of the file."""

    log: LogSettings = LogSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
