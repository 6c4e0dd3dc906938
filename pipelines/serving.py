"""What is done with a model: from ads to answers, and from labelled ads to how good it is."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from demand.config import GateSettings
from steps import serving


@pipeline(
    name="batch-inference",
    execution_mode=ExecutionMode.FAIL_FAST,
    tags=["batch-inference", "demand"],
)
def batch_inference(path: str, output: str, version: str, max_file_gb: float) -> None:
    """Answer each ad of a file with one registered version."""
    serving.batch_inference(path, output, version, max_file_gb)


@pipeline(
    name="production-evaluation",
    execution_mode=ExecutionMode.FAIL_FAST,
    tags=["production-evaluation", "demand"],
)
def production_evaluation(
    path: str, url: str | None, rows: int, settings: GateSettings, seed: int, max_file_gb: float
) -> None:
    """Send labelled ads through the endpoint, and compare with the registered model."""
    serving.production_evaluation(path, url, rows, settings, seed, max_file_gb)
