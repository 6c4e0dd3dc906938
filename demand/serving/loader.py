"""MLflow's door to a Predictor: the ``loader_module`` that a packaged model names.

Nothing is pickled: MLflow calls :func:`_load_pyfunc` with the folder of safetensors
and JSON that :meth:`demand.predictor.Predictor.save` wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from demand.errors import AdError
from demand.ingestion.records import frame_from_columns

if TYPE_CHECKING:
    import pandas as pd


class Predicts(Protocol):
    """What serving needs of a Predictor."""

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the deal probability of each raw ad, shape (n,)."""

    def save(self, folder: Path) -> None:
        """Write the model as a folder of safetensors and JSON."""


class ServedPredictor:
    """A Predictor behind MLflow's ``predict``: frames of any dtypes in, probabilities out."""

    def __init__(self, predictor: Predicts) -> None:
        self.predictor = predictor

    def predict(self, data: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return probabilities, shape (n,).

        Raises
        ------
        mlflow.exceptions.MlflowException
            ``INVALID_PARAMETER_VALUE``, HTTP status 400: names the field and the ad.
        """
        from mlflow.exceptions import MlflowException

        try:
            frame = frame_from_columns({str(n): values.tolist() for n, values in data.items()})
        except AdError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return self.predictor.predict(frame)

    def get_raw_model(self) -> Predicts:
        """Return the Predictor, for callers that have a typed frame already."""
        return self.predictor


def _load_pyfunc(data_path: str) -> ServedPredictor:
    """Load what ``data_path`` holds; MLflow calls this by name."""
    from demand.predictor import Predictor

    predictor: Any = Predictor.load(Path(data_path))
    return ServedPredictor(predictor)
