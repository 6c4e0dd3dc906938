"""The one object that answers: features and weights, saved as one directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.ads import REQUEST_REQUIRED
from demand.config import FeatureSettings
from demand.errors import ModelError, StateError
from demand.features.builder import FeatureBuilder
from demand.features.columns import AdColumns
from demand.forward import Weights, forward, quantise
from demand.state import read_json, write_aside_folder, write_json

FORMAT = 1
JSON_NAME, ARRAYS_NAME = "predictor.json", "arrays.safetensors"
BLOCK = 4096  # ads a pass: bounds memory, and is large enough for numpy to be busy


class Predictor:
    """From raw ads to deal probabilities, without torch and without pickle.

    Parameters
    ----------
    builder
        The fitted features.
    weights
        The network's weights; they are rounded here to what is saved, so that a
        Predictor answers the same before it is saved and after it is loaded.
    """

    def __init__(self, builder: FeatureBuilder, weights: Weights) -> None:
        self._packed = _pack(builder, weights)
        self._builder, self._weights = _unpack(self._packed, builder.settings)

    def predict(self, ads: pd.DataFrame) -> NDArray[np.float64]:
        """Return the deal probability of each ad, shape (n,), in [0, 1].

        Columns may come in any order; all but ``title`` and ``category_name`` may be
        absent, and any value may be missing.

        Raises
        ------
        ModelError
            A required column is absent; it is named.
        """
        absent = [name for name in REQUEST_REQUIRED if name not in ads.columns]
        if absent:
            raise ModelError(f"the ads have no column {', '.join(absent)}; every ad needs it")
        blocks = [
            self._answer(AdColumns.from_frame(ads.iloc[first : first + BLOCK]))
            for first in range(0, len(ads), BLOCK)
        ]
        return np.concatenate(blocks) if blocks else np.empty(0)

    def predict_one(self, ad: Mapping[str, Any]) -> float:
        """Return the deal probability of one ad given as a mapping."""
        return float(self._answer(AdColumns.from_record(ad))[0])

    def _answer(self, ads: AdColumns) -> NDArray[np.float64]:
        return forward(self._weights, self._builder.transform(ads))

    def save(self, folder: Path) -> None:
        """Write ``predictor.json`` and ``arrays.safetensors``; all or nothing."""
        from safetensors.numpy import save

        with write_aside_folder(folder) as aside:
            # safetensors' header takes the names in order of dtype and name, so equal
            # arrays give equal bytes.
            (aside / ARRAYS_NAME).write_bytes(save(self._packed))
            settings = self._builder.settings.model_dump()
            write_json(aside / JSON_NAME, {"format": FORMAT, "features": settings})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved Predictor.

        Raises
        ------
        ModelError
            The folder is no Predictor, is damaged, or is of another format.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (folder / JSON_NAME).is_file():
            raise ModelError(f"{folder} holds no model: {JSON_NAME} is missing")
        try:
            about = read_json(folder / JSON_NAME)
        except StateError as error:
            raise _damaged(folder, error) from error
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            found = about.get("format") if isinstance(about, dict) else None
            raise ModelError(
                f"{folder} is a model of format {found!r}, this version reads {FORMAT}: "
                "retrain with `python run.py --pipeline training`"
            )
        predictor = cls.__new__(cls)
        try:
            settings = FeatureSettings.model_validate(about["features"])
            predictor._packed = load_file(folder / ARRAYS_NAME)
            predictor._builder, predictor._weights = _unpack(predictor._packed, settings)
            # One answer takes every array: one that is missing or of another shape shows now.
            predictor.predict_one({})
        except (OSError, SafetensorError, LookupError, ValueError) as error:
            raise _damaged(folder, error) from error
        return predictor


def _damaged(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"the model in {folder} is damaged ({type(error).__name__}: {error}): "
        "retrain, or go back with `demand rollback`"
    )


def _pack(builder: FeatureBuilder, weights: Weights) -> dict[str, NDArray[Any]]:
    """Round to what is worth keeping: int8 for the token table, 16 bits for the rest."""
    packed: dict[str, NDArray[Any]] = {}
    for name, array in builder.arrays.items():
        small = name.endswith(".means")
        packed[f"features.{name}"] = array.astype(np.float16) if small else array
    for name, weight in weights.items():
        if name == "table":
            packed["weights.table"], packed["weights.table_scale"] = quantise(weight)
        else:
            packed[f"weights.{name}"] = weight.astype(np.float16)
    return {name: np.ascontiguousarray(array) for name, array in packed.items()}


def _unpack(
    packed: Mapping[str, NDArray[Any]], settings: FeatureSettings
) -> tuple[FeatureBuilder, dict[str, NDArray[np.float32]]]:
    """Undo :func:`_pack`, into the types that compute fast."""
    arrays, weights = {}, {}
    for name, array in packed.items():
        part, _, rest = name.partition(".")
        wide = array.astype(np.float32) if array.dtype == np.float16 else array
        if part == "features":
            arrays[rest] = wide
        else:
            weights[rest] = wide
    scale = weights.pop("table_scale")
    weights["table"] = weights["table"].astype(np.float32) * scale
    return FeatureBuilder(settings, arrays), weights
