"""What all steps share: caching, artifacts and how they are stored, notes, reports, refusals."""

from __future__ import annotations

import datetime
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
from safetensors.numpy import load, save
from zenml import ArtifactConfig, bulk_log_metadata, get_step_context, save_artifact
from zenml.client import Client
from zenml.config.cache_policy import CachePolicy
from zenml.enums import ArtifactType
from zenml.io import fileio
from zenml.materializers.base_materializer import BaseMaterializer
from zenml.types import HTMLString
from zenml.utils import io_utils
from zenml.utils.metadata_utils import PipelineRunIdentifier, StepRunIdentifier

from demand.config import FeatureSettings
from demand.data.lineage import code_fingerprint, report_fingerprint
from demand.data.typed import TypedAds
from demand.errors import GateRefusal
from demand.features.feature_set import FeatureSet
from demand.model.predictor import Predictor
from demand.progress import step_shown
from demand.workspace.workspace import reports_folder, write_aside

SECONDS = "seconds"
REPORTS = "reports"

# ZenML's own key covers a step's function, parameters and inputs; all other code of ours
# and the libraries' versions are added. Where a model comes from does not change it.
CACHED = CachePolicy(cache_func=code_fingerprint, ignored_inputs=["lineage"])
# Of steps on whose outputs no training depends: how they tell what they found counts, too.
CACHED_REPORT = CachePolicy(cache_func=report_fingerprint, ignored_inputs=["lineage"])


def output(name: str, description: str, *tags: str) -> ArtifactConfig:
    """Return a step's output as ZenML's dashboard shows it."""
    return ArtifactConfig(name=name, tags=list(tags), run_metadata={"description": description})


@contextmanager
def noted() -> Iterator[dict[str, Any]]:
    """Show the current step, and record what it notes, and its seconds, as metadata.

    The notes are figures that one wants to compare: they are those of the step, of its run,
    and of its model version if it has one. ``seconds`` becomes ``STEP_seconds``.
    """
    context, notes = get_step_context(), dict[str, Any]()
    started = time.perf_counter()
    try:
        with step_shown(context.step_name):
            yield notes
    finally:
        notes[f"{context.step_name}_{SECONDS}"] = round(time.perf_counter() - started, 3)
        bulk_log_metadata(
            notes,
            pipeline_runs=[PipelineRunIdentifier(id=context.pipeline_run.id)],
            step_runs=[StepRunIdentifier(id=context.step_run.id)],
            infer_models=context.model_version is not None,
        )


def today() -> str:
    """Return the day in UTC, ISO 8601; where a step's work is done it is an output of the step."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def cached_until_midnight() -> None:
    """Let the current step run again tomorrow, since its outcome hangs on the day."""
    tomorrow = datetime.date.today() + datetime.timedelta(days=1)
    midnight = datetime.datetime.combine(tomorrow, datetime.time()).astimezone(datetime.UTC)
    step_run = get_step_context().step_run.id
    Client().update_step_run(step_run, cache_expires_at=midnight.replace(tzinfo=None))


def refuse(gate: str, reason: str, **pages: HTMLString) -> NoReturn:
    """End the run, and leave the step's pages in the dashboard, where they are needed now.

    A step that raises has no outputs; so the pages are saved by hand.
    """
    for name, page in pages.items():
        save_artifact(page, name=name)
    raise GateRefusal(gate, reason)


def shown(page: Path) -> HTMLString:
    """Return a page as the dashboard shows it."""
    return HTMLString(page.read_text(encoding="utf-8"))


def pipeline_reports() -> Path:
    """Return the folder of reports of the pipeline that the current step runs in."""
    return reports_folder(get_step_context().pipeline.name)


@contextmanager
def reported() -> Iterator[Path]:
    """Yield a folder for a step's reports, which are published also where a gate says no."""
    reports = Path(tempfile.mkdtemp())
    try:
        yield reports
    except GateRefusal:
        publish(reports, pipeline_reports())
        raise
    publish(reports, pipeline_reports())


def publish(reports: Path, folder: Path) -> None:
    """Put a step's reports where people read them; each file is replaced whole."""
    for source in sorted(path for path in reports.rglob("*") if path.is_file()):
        with write_aside(folder / source.relative_to(reports)) as aside:
            shutil.copyfile(source, aside)


class TypedAdsMaterializer(BaseMaterializer):
    """Stores TypedAds as their Parquet file; from a local store it is read where it lies."""

    ASSOCIATED_TYPES: ClassVar[tuple[type, ...]] = (TypedAds,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def load(self, data_type: type[Any]) -> TypedAds:
        """Open the file, or a copy of it that lasts as long as the step."""
        del data_type
        stored = f"{self.uri}/ads.parquet"
        if Path(stored).is_file():
            return TypedAds(Path(stored))
        with self.get_temporary_directory(delete_at_exit=False) as folder:
            fileio.copy(stored, f"{folder}/ads.parquet")
            return TypedAds(Path(folder) / "ads.parquet")

    def save(self, data: TypedAds) -> None:
        """Copy the file."""
        fileio.copy(str(data.path), f"{self.uri}/ads.parquet")


class RowsMaterializer(BaseMaterializer):
    """Stores numbers of rows as safetensors: ZenML's own reads pickles, and draws histograms."""

    ASSOCIATED_TYPES: ClassVar[tuple[type, ...]] = (np.ndarray,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def load(self, data_type: type[Any]) -> np.ndarray:
        """Read the file back."""
        del data_type
        with fileio.open(f"{self.uri}/rows.safetensors", "rb") as file:
            return load(file.read())["rows"]

    def save(self, data: np.ndarray) -> None:
        """Write the file."""
        with fileio.open(f"{self.uri}/rows.safetensors", "wb") as file:
            file.write(save({"rows": data}))


class PredictorMaterializer(BaseMaterializer):
    """Stores a Predictor as its own directory, in safetensors and JSON, never a pickle."""

    ASSOCIATED_TYPES: ClassVar[tuple[type, ...]] = (Predictor,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.MODEL

    def load(self, data_type: type[Any]) -> Predictor:
        """Read the directory back."""
        del data_type
        with tempfile.TemporaryDirectory() as temporary:
            io_utils.copy_dir(f"{self.uri}/predictor", f"{temporary}/predictor")
            return Predictor.load(Path(temporary) / "predictor")

    def save(self, data: Predictor) -> None:
        """Write the directory."""
        with tempfile.TemporaryDirectory() as temporary:
            data.save(Path(temporary) / "predictor")
            io_utils.copy_dir(f"{temporary}/predictor", f"{self.uri}/predictor")


class FeatureSetMaterializer(BaseMaterializer):
    """Stores a FeatureSet as one safetensors file of arrays and one JSON file of settings."""

    ASSOCIATED_TYPES: ClassVar[tuple[type, ...]] = (FeatureSet,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def load(self, data_type: type[Any]) -> FeatureSet:
        """Read both files back."""
        del data_type
        with fileio.open(f"{self.uri}/settings.json", "r") as file:
            settings = FeatureSettings.model_validate_json(file.read())
        with fileio.open(f"{self.uri}/arrays.safetensors", "rb") as file:
            return FeatureSet.from_arrays(settings, load(file.read()))

    def save(self, data: FeatureSet) -> None:
        """Write both files."""
        with fileio.open(f"{self.uri}/settings.json", "w") as file:
            file.write(data.builder.settings.model_dump_json())
        with fileio.open(f"{self.uri}/arrays.safetensors", "wb") as file:
            file.write(save(data.to_arrays()))
