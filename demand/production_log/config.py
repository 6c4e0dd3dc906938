"""What ``configs/monitoring.yaml`` may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from demand.config import Count, Positive, Settings, Share


class LogSettings(Settings):
    """How much of what was answered is kept; the file says what each means."""

    queue_ads: Count = 20_000
    segment_mb: Positive = 32.0
    max_gb: Positive = 2.0
    retention_days: Count = 400
    shadow_ads_per_s: Annotated[float, Field(ge=0.0)] = 20.0


class MonitoringSettings(Settings):
    """When an answer can be compared with what became of its ad, and in what windows."""

    maturity_days: Annotated[float, Field(ge=0.0)] = 30.0
    window_days: Count = 7
    known_share_min: Share = 0.8
    bootstrap_samples: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class AlertSettings(Settings):
    """Whom alerts are told to, besides ``DEMAND_ALERT_URLS``, and how often."""

    urls_file: str | None = None
    repeat_hours: Positive = 24.0
    timeout_s: Positive = 15.0


Verdict = Literal["ok", "watch", "retrain", "alarm"]
Series = Literal["answered", "mature"]


class Rule(Settings):
    """Says a verdict where a reading lies beyond a limit, in enough of the last windows."""

    name: str
    # Of the windows that were answered last, or of those whose outcomes are due.
    series: Series = "answered"
    reading: str  # as in :attr:`Window.readings`
    limit: float
    beyond: Literal["above", "below"] = "above"
    # Which figure of the reading must lie beyond: low for "surely above".
    by: Literal["value", "low", "high"] = "value"
    verdict: Literal["watch", "retrain", "alarm"]
    windows: Count = 1  # of the last ``of``, the newest among them
    of: Count = 1
    rows_min: Count = 1  # fewer rows behind a reading are no evidence
    rolls_back: bool = False  # the champion before takes over where it holds

    @model_validator(mode="after")
    def _fits(self) -> Rule:
        if self.windows > self.of:
            raise ValueError(f"{self.windows} of the last {self.of} windows cannot be")
        return self


class MonitoringConfig(Settings):
    """All of the file."""

    log: LogSettings = LogSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    alerts: AlertSettings = AlertSettings()
    rules: list[Rule] = Field(default_factory=list)
