"""What a training run leaves in MLflow: parameters, curves, lineage, reports.

Nothing global is touched: each client is bound to the SQLite file of one
:class:`demand.workspace.workspace.Workspace`, so two installations never see each other.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demand.errors import StateError
from demand.workspace.workspace import (
    Workspace,
    current_workspace,
    disk_failure,
    exclusive,
    write_aside,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

EXPERIMENT = "demand-training"

_SQLITE_MAGIC = b"SQLite format 3\x00"
_WAY_OUT = "restore it from a backup, or move it away and retrain"


def quiet_mlflow() -> None:
    """Turn off MLflow's telemetry, progress bars and the chatter of its loggers.

    Telemetry would write an installation id into the user's home and call out; it
    is read when MLflow is imported, so this comes before every import of MLflow.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def tracking_uri(workspace: Workspace | None = None) -> str:
    """Return the URI of MLflow's tracking store and registry of this installation."""
    return f"sqlite:///{(workspace or current_workspace()).mlflow_database}"


def mlflow_client(workspace: Workspace | None = None) -> MlflowClient:
    """Return a client of this installation's store, which is created if absent.

    A database that is damaged, or of another version of MLflow, is a StateError that names it.
    """
    workspace = workspace or current_workspace()
    quiet_mlflow()
    from mlflow import MlflowClient

    quiet_mlflow()  # importing MLflow configures its loggers anew
    _ensure_database(workspace)
    uri = tracking_uri(workspace)
    with store_errors(workspace):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def store_errors(workspace: Workspace) -> Iterator[None]:
    """Say errors of MLflow, and of the SQL below it, as a :class:`StateError`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

    try:
        yield
    except (DatabaseError, MlflowException) as error:
        raise StateError(_explained(error, workspace.mlflow_database)) from error


def _explained(error: DatabaseError | MlflowException, database: Path) -> str:
    from sqlalchemy.exc import DatabaseError

    failure = disk_failure(error)
    if failure is not None:
        return failure
    cause = error if isinstance(error, DatabaseError) else error.__cause__
    if not isinstance(cause, DatabaseError):
        return f"cannot use MLflow's database {database}: {error}"
    # Without the statement, which SQLAlchemy shows too.
    said = str(cause.orig)
    if "locked" in said:
        return f"another process is using MLflow's database {database}: try again ({said})"
    return f"cannot use MLflow's database {database} ({said}): {_WAY_OUT}"


def _ensure_database(workspace: Workspace) -> None:
    """Create the database aside and move it into place, so that it is whole or absent."""
    database = workspace.mlflow_database
    if not database.exists():
        with exclusive(workspace.locks / "mlflow.lock", "creating MLflow's database", wait=True):
            if not database.exists():
                from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

                with write_aside(database) as aside:
                    artifacts = workspace.mlflow_artifacts.as_uri()
                    SqlAlchemyStore(f"sqlite:///{aside}", artifacts).engine.dispose()
    # MLflow retries for a minute and a half on a file that can never open.
    try:
        with database.open("rb") as file:
            start = file.read(len(_SQLITE_MAGIC))
    except OSError as error:
        raise StateError(f"cannot read {database}: {error.strerror}") from error
    if start != _SQLITE_MAGIC:
        raise StateError(
            f"cannot use MLflow's database {database} (it is no SQLite file): {_WAY_OUT}"
        )


@dataclass(frozen=True)
class TrackedRun:
    """One run of MLflow, reachable from any process by its id."""

    client: MlflowClient
    run_id: str
    experiment_id: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; nested mappings become ``section.key``. A parameter is set once."""
        import pandas as pd
        from mlflow.entities import Param

        flat = pd.json_normalize(dict(params), sep=".").to_dict("records")[0]
        entries = [Param(str(name), str(value)) for name, value in flat.items()]
        self.client.log_batch(self.run_id, params=entries)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log single figures, such as the test RMSE."""
        self.log_curves({name: [value] for name, value in metrics.items()})

    def log_curves(self, curves: Mapping[str, Sequence[float]]) -> None:
        """Log one value an epoch for each name; values that are not finite leave a gap."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [
            Metric(name, float(value), now, epoch)
            for name, values in curves.items()
            for epoch, value in enumerate(values)
            if math.isfinite(value)
        ]
        self.client.log_batch(self.run_id, metrics=entries)


def start_run(
    name: str,
    *,
    tags: Mapping[str, str | None] | None = None,
    workspace: Workspace | None = None,
    experiment: str = EXPERIMENT,
) -> TrackedRun:
    """Start a run in an experiment, which is made if absent; the caller ends it.

    Tags, such as ``data_md5`` and ``git_commit``, that have no value are left out.
    """
    workspace = workspace or current_workspace()
    client = mlflow_client(workspace)
    known = {key: value for key, value in (tags or {}).items() if value is not None}
    with store_errors(workspace):
        experiment_id = _experiment(client, workspace, experiment)
        run = client.create_run(experiment_id, run_name=name, tags=known)
    return TrackedRun(client, run.info.run_id, experiment_id)


def open_run(run_id: str, workspace: Workspace | None = None) -> TrackedRun:
    """Return a run that another step started; :class:`StateError` where there is none."""
    from mlflow.exceptions import MlflowException

    client, store = mlflow_client(workspace), tracking_uri(workspace)
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise StateError(f"no run {run_id} in {store}: {error.message}") from error
    return TrackedRun(client, run_id, run.info.experiment_id)


@contextlib.contextmanager
def tracked_run(
    name: str, *, tags: Mapping[str, str | None] | None = None, experiment: str = EXPERIMENT
) -> Iterator[TrackedRun]:
    """Run a block as one MLflow run: finished, failed, or killed by Ctrl-C."""
    run, status = start_run(name, tags=tags, experiment=experiment), "KILLED"
    try:
        yield run
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        run.client.set_terminated(run.run_id, status)


def store_id() -> str:
    """Return what tells this installation's MLflow store from any other, or a new one."""
    workspace = current_workspace()
    client = mlflow_client(workspace)
    with store_errors(workspace):
        experiment = client.get_experiment(_experiment(client, workspace))
    return f"{workspace.root}:{experiment.creation_time}"


def _experiment(client: MlflowClient, workspace: Workspace, name: str = EXPERIMENT) -> str:
    """Return the experiment's id; two processes may both be the first."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, workspace.mlflow_artifacts.as_uri()))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)
