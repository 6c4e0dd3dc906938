"""What a training run leaves in MLflow: parameters, curves, lineage, reports.

Nothing global is touched: each client is bound to the SQLite file of one
:class:`demand.state.Home`, so two installations never see each other.
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

from demand.disk import disk_failure
from demand.errors import StateError
from demand.state import Home, exclusive, home, write_aside

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

EXPERIMENT = "demand-training"

_SQLITE_MAGIC = b"SQLite format 3\x00"
_WAY_OUT = "restore it from a backup, or move it away and retrain"
# Limits of MLflow's store: entries of one batch, characters of a parameter and of a tag.
_BATCH_PARAMS = 100
_BATCH_METRICS = 1000
_PARAM_LENGTH = 6000
_TAG_LENGTH = 5000


def quiet_mlflow() -> None:
    """Turn off MLflow's telemetry, progress bars and the chatter of its loggers.

    Telemetry would write an installation id into the user's home and call out; it
    is read when MLflow is imported, so this comes before every import of MLflow.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def tracking_uri(place: Home | None = None) -> str:
    """Return the URI of MLflow's tracking store and registry of this installation."""
    return f"sqlite:///{(place or home()).mlflow_database}"


def mlflow_client(place: Home | None = None) -> MlflowClient:
    """Return a client of this installation's store, which is created if absent.

    Raises
    ------
    StateError
        The database is damaged, or of another version of MLflow; names the file.
    """
    place = place or home()
    quiet_mlflow()
    from mlflow import MlflowClient

    quiet_mlflow()  # importing MLflow configures its loggers anew
    _ensure_database(place)
    uri = tracking_uri(place)
    with store_errors(place):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def store_errors(place: Home) -> Iterator[None]:
    """Say errors of MLflow, and of the SQL below it, as a :class:`StateError`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

    try:
        yield
    except (DatabaseError, MlflowException) as error:
        raise StateError(_explained(error, place.mlflow_database)) from error


def _explained(error: DatabaseError | MlflowException, database: Path) -> str:
    from sqlalchemy.exc import DatabaseError

    failure = disk_failure(error)
    if failure is not None:
        return f"{failure}; free some space and run the same command again"
    cause = error if isinstance(error, DatabaseError) else error.__cause__
    if not isinstance(cause, DatabaseError):
        return f"cannot use MLflow's database {database}: {error}"
    # Without the statement, which SQLAlchemy shows too.
    said = str(cause.orig)
    if "locked" in said:
        return f"another process is using MLflow's database {database}: try again ({said})"
    return f"cannot use MLflow's database {database} ({said}): {_WAY_OUT}"


def _ensure_database(place: Home) -> None:
    """Create the database aside and move it into place, so that it is whole or absent."""
    database = place.mlflow_database
    if not database.exists():
        with exclusive(place.locks / "mlflow.lock", "creating MLflow's database", wait=True):
            if not database.exists():
                _create_database(database, place.mlflow_artifacts)
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


def _create_database(database: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with write_aside(database) as temporary:
        SqlAlchemyStore(f"sqlite:///{temporary}", artifacts.as_uri()).engine.dispose()


@dataclass(frozen=True)
class TrackedRun:
    """One run of MLflow, reachable from any process by its id.

    Parameters
    ----------
    client
        A client bound to the installation.
    run_id, experiment_id
        MLflow's ids.
    """

    client: MlflowClient
    run_id: str
    experiment_id: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; nested mappings become ``section.key``. A parameter is set once."""
        from mlflow.entities import Param

        entries = [Param(key, value[:_PARAM_LENGTH]) for key, value in _flat(params)]
        for start in range(0, len(entries), _BATCH_PARAMS):
            self.client.log_batch(self.run_id, params=entries[start : start + _BATCH_PARAMS])

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
        for start in range(0, len(entries), _BATCH_METRICS):
            self.client.log_batch(self.run_id, metrics=entries[start : start + _BATCH_METRICS])

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Set tags, such as ``data_md5`` and ``git_commit``; those without a value are left out."""
        from mlflow.entities import RunTag

        entries = [RunTag(k, v[:_TAG_LENGTH]) for k, v in tags.items() if v is not None]
        self.client.log_batch(self.run_id, tags=entries)

    def log_folder(self, folder: Path, name: str) -> None:
        """Copy a folder, such as the reports, to the run's artifacts below ``name``."""
        self.client.log_artifacts(self.run_id, str(folder), name)

    def finish(self, status: str = "FINISHED") -> None:
        """End the run as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self.client.set_terminated(self.run_id, status)


def start_run(
    name: str,
    *,
    tags: Mapping[str, str | None] | None = None,
    place: Home | None = None,
    experiment: str = EXPERIMENT,
) -> TrackedRun:
    """Start a run in an experiment, which is made if absent; the caller ends it."""
    place = place or home()
    client = mlflow_client(place)
    with store_errors(place):
        experiment_id = _experiment(client, place, experiment)
        run = client.create_run(experiment_id, run_name=name)
    tracked = TrackedRun(client, run.info.run_id, experiment_id)
    if tags:
        tracked.set_tags(tags)
    return tracked


def open_run(run_id: str, place: Home | None = None) -> TrackedRun:
    """Return a run that another step started.

    Raises
    ------
    StateError
        There is no such run in this installation.
    """
    from mlflow.exceptions import MlflowException

    client = mlflow_client(place)
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise StateError(f"no run {run_id} in {tracking_uri(place)}: {error.message}") from error
    return TrackedRun(client, run_id, run.info.experiment_id)


@contextlib.contextmanager
def tracked_run(
    name: str,
    *,
    tags: Mapping[str, str | None] | None = None,
    place: Home | None = None,
    experiment: str = EXPERIMENT,
) -> Iterator[TrackedRun]:
    """Run a block as one MLflow run: finished, failed, or killed by Ctrl-C."""
    run = start_run(name, tags=tags, place=place, experiment=experiment)
    try:
        yield run
    except Exception:
        run.finish("FAILED")
        raise
    except BaseException:
        run.finish("KILLED")
        raise
    run.finish()


def store_id(place: Home | None = None) -> str:
    """Return what tells this installation's MLflow store from any other, or a new one."""
    place = place or home()
    client = mlflow_client(place)
    with store_errors(place):
        experiment = client.get_experiment(_experiment(client, place))
    return f"{place.root}:{experiment.creation_time}"


def _experiment(client: MlflowClient, place: Home, name: str = EXPERIMENT) -> str:
    """Return the experiment's id; two processes may both be the first."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, place.mlflow_artifacts.as_uri()))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
