"""From labelled ads to how good and how fast the deployed model is."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from demand.config import GateSettings
from steps.production_evaluation import production_evaluation as evaluate


@pipeline(name="production-evaluation", execution_mode=ExecutionMode.FAIL_FAST)
def production_evaluation(
    path: str, url: str | None, rows: int, settings: GateSettings, seed: int, max_file_gb: float
) -> None:
    """Send labelled ads through the endpoint, and compare with the registered model."""
    evaluate(path, url, rows, settings, seed, max_file_gb)
