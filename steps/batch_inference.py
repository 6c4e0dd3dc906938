"""Answer a file of ads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from zenml import log_metadata, step

from demand.batch import answer_file
from demand.serving.promotion import champion_predictor
from steps.common import timed


# Never cached: the file is to be written each time.
@step(enable_cache=False)
def batch_inference(
    path: str, output: str, version: str, max_file_gb: float
) -> Annotated[dict[str, Any], "answered"]:
    """Write the answers of ``version`` beside nothing but the ids of the ads."""
    with timed():
        predictor = champion_predictor(version)
        answered = answer_file(predictor, Path(path), Path(output), max_file_gb=max_file_gb)
        log_metadata({"rows": answered.rows, "answered": answered.answered, "version": version})
    return asdict(answered) | {"warnings": list(answered.warnings)}
