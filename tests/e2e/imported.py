"""What a run imports; loaded once into the process that :mod:`tests.e2e.door` forks."""

from __future__ import annotations

from cli.terminal import prepare_environment
from demand.workspace.workspace import PROJECT_ROOT

prepare_environment(quiet=False, verbose=False)

from zenml.utils import source_utils  # noqa: E402

# ZenML looks beside the main module, which here is multiprocessing's.
source_utils.set_custom_source_root(str(PROJECT_ROOT))

import great_expectations  # noqa: E402, F401
import mlflow  # noqa: E402, F401
import optuna  # noqa: E402, F401
import torch  # noqa: E402, F401

import orchestration.served_model  # noqa: E402, F401
import pipelines.training  # noqa: E402
import pipelines.tuning  # noqa: E402, F401
