"""Loader of the MLflow flavor ``python_function``: the ``loader_module`` of a packaged model.

Nothing is pickled: MLflow calls :func:`_load_pyfunc` with the folder of safetensors
and JSON that :meth:`demand.model.predictor.Predictor.save` wrote.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from demand.errors import AdError
from demand.schema.columns import COLUMN
from demand.schema.records import frame_from_columns

if TYPE_CHECKING:
    import pandas as pd

    from demand.model.predictor import Predictor

# Where the code that answers lies in an MLflow model of ours, see MLflow's ``code_paths``.
CODE_FOLDER = "code"


class ServedPredictor:
    """A Predictor behind MLflow's ``predict``: frames of any dtypes in, probabilities out.

    What pandas, a CSV reader and Spark make of an ad is undone: a text of digits that was
    taken for a number is a text again, and a decimal is a number.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, data: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return probabilities, shape (n,).

        MLflow's ``INVALID_PARAMETER_VALUE``, HTTP status 400, names a wrong field and the ad.
        """
        from mlflow.exceptions import MlflowException

        try:
            frame = frame_from_columns(
                {str(name): _values(str(name), values) for name, values in data.items()}
            )
        except AdError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return self.predictor.predict(frame)

    def get_raw_model(self) -> Predictor:
        """Return the Predictor, for callers that have a typed frame already."""
        return self.predictor


def _values(name: str, column: pd.Series[Any]) -> list[Any]:
    """Return the values of a column as a request would have them."""
    values: list[Any] = column.tolist()
    known = COLUMN.get(name)
    if known is None or all(value is None or type(value) is str for value in values):
        return values
    if known.kind == "text":
        return [_digits(value) for value in values]
    return [float(value) if isinstance(value, Decimal) else value for value in values]


def _digits(value: object) -> object:
    """Write a whole number out as its digits; of any other value the reader knows."""
    # Where some are missing, pandas makes whole numbers floats.
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _load_pyfunc(data_path: str) -> ServedPredictor:
    """Load what ``data_path`` holds; MLflow calls this by name."""
    from demand.model.predictor import Predictor

    # MLflow has put the model's copy of this code first on the path. Where another one is
    # running, as in every process of this project, nothing more is to be imported from there.
    copied = str(Path(data_path).parents[1] / CODE_FOLDER)
    if copied in sys.path and not Path(__file__).is_relative_to(copied):
        sys.path.remove(copied)
    return ServedPredictor(Predictor.load(Path(data_path)))
