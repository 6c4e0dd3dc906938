"""From a file of ads to a file of answers."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from steps.batch_inference import batch_inference as answer


@pipeline(name="batch-inference", execution_mode=ExecutionMode.FAIL_FAST)
def batch_inference(path: str, output: str, version: str, max_file_gb: float) -> None:
    """Answer each ad of a file with one registered version."""
    answer(path, output, version, max_file_gb)
