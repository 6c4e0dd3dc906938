"""How ZenML stores our artifacts: safetensors and JSON, never pickle."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

from safetensors.numpy import load, save
from zenml.enums import ArtifactType
from zenml.io import fileio
from zenml.materializers.base_materializer import BaseMaterializer
from zenml.utils import io_utils

from demand.config import FeatureSettings
from demand.features.feature_set import FeatureSet
from demand.predictor import Predictor


class PredictorMaterializer(BaseMaterializer):
    """Stores a Predictor as its own directory."""

    ASSOCIATED_TYPES: ClassVar[tuple[type, ...]] = (Predictor,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.MODEL

    def load(self, data_type: type[Any]) -> Predictor:
        """Read the directory back."""
        del data_type
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "predictor"
            io_utils.copy_dir(f"{self.uri}/predictor", str(folder))
            return Predictor.load(folder)

    def save(self, data: Predictor) -> None:
        """Write the directory."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "predictor"
            data.save(folder)
            io_utils.copy_dir(str(folder), f"{self.uri}/predictor")


class FeatureSetMaterializer(BaseMaterializer):
    """Stores a FeatureSet as one file of arrays and one of settings."""

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
