"""An MLflow model that does nothing: what MLflow itself costs, and nothing else.

MLflow runs this file where it loads the model ("models from code"), so that nothing is pickled.
"""

from __future__ import annotations

import mlflow.pyfunc
import numpy as np
from mlflow.models import set_model


class Empty(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers zero for every ad."""

    # Without types, from which MLflow would derive a signature that disagrees with ours.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def] # noqa: ARG002
        """Return zeros, shape (n,)."""
        return np.zeros(len(model_input))


set_model(Empty())
