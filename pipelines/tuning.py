"""From a file of ads to better parameters for the training pipeline."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from demand.config import TrainingConfig
from demand.model.tuning.config import TuningConfig
from steps.data import ingest, split, trace, validate
from steps.tuning import tune


# The steps up to the split are those of the training pipeline, and so is their cache. The
# test part ends here: no trial is measured on it.
@pipeline(name="tuning", execution_mode=ExecutionMode.FAIL_FAST, tags=["tuning", "demand"])
def tuning(
    path: str, md5: str, base: TrainingConfig, settings: TuningConfig, trials: int, anew: bool
) -> None:
    """Ingest, validate, split, search."""
    ads, unparsed, lines = ingest(path, md5, base.data.max_file_gb)
    lineage = trace(ads, path, md5)
    accepted, _, _, _ = validate(ads, unparsed, lines, base.validation)
    training, validation, _, _ = split(ads, accepted, base.split, base.seed)
    tune(ads, training, validation, lineage, base, settings, trials, anew)
