"""An installation with two registered versions of a model that needs no training."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3

from demand.registry.packaging import EXAMPLE_ADS, log_model
from demand.registry.registry import Registry
from demand.registry.tracking import start_run
from demand.schema.records import frame_from_records
from demand.workspace.workspace import Workspace
from tests.serving.standin import LOADER, Standin


def register_two(workspace: Workspace) -> None:
    """Register versions 1 and 2, which answer by biases of 0.1 and 0.2."""
    run = start_run("training", workspace=workspace)
    for version, bias in (("1", 0.1), ("2", 0.2)):
        model_id = log_model(
            run, Standin(bias), frame_from_records(EXAMPLE_ADS), loader_module=LOADER
        )
        Registry(workspace).register_challenger(
            model_id, data_md5=f"md5-{version}", fingerprint=version, metrics={"rmse": bias}
        )


def start_from(original: Workspace, workspace: Workspace) -> None:
    """Make a new installation in ``workspace`` that knows the versions of another one."""
    workspace.root.mkdir()
    shutil.copy(original.mlflow_database, workspace.mlflow_database)
    # A copy would be refused: what is logged from now on lies here.
    with contextlib.closing(sqlite3.connect(workspace.mlflow_database)) as store, store:
        own = workspace.mlflow_artifacts.as_uri()
        store.execute("UPDATE experiments SET artifact_location = ?", (own,))
