"""What a run imports; loaded once into the process that :mod:`tests.e2e.door` forks."""

from __future__ import annotations

from cli.terminal import prepare_environment
from demand.workspace.workspace import PROJECT_ROOT

prepare_environment(quiet=False, verbose=False)

from zenml.utils import source_utils  # noqa: E402

# ZenML looks beside the main module, which here is multiprocessing's.
source_utils.set_custom_source_root(str(PROJECT_ROOT))

import great_expectations  # noqa: E402, F401
import mlflow.store.tracking.sqlalchemy_store  # noqa: E402, F401
import optuna  # noqa: E402, F401
import torch  # noqa: E402
from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches  # noqa: E402
from pandas import DataFrame  # noqa: E402
from zenml.integrations.registry import integration_registry  # noqa: E402

import demand.reports.plots  # noqa: E402
import demand.validation.suites  # noqa: E402, F401
import orchestration.served_model  # noqa: E402, F401
import pipelines.training  # noqa: E402
import pipelines.tuning  # noqa: E402, F401

# What each library imports or looks up when it is first used: torch's compiler, materializers
# of all integrations, and the installed packages, which ZenML would go through again for each
# artifact of a type that does not name its source.
torch.optim.SGD([torch.zeros(1, requires_grad=True)])
integration_registry.activate_integrations()
warn_dependency_requirement_mismatches(["mlflow"])
setattr(DataFrame, source_utils.ZENML_SOURCE_ATTRIBUTE_NAME, source_utils.resolve(DataFrame))
