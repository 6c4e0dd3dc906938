from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from demand.errors import StateError
from demand.registry.registry import Registry
from demand.registry.tracking import mlflow_client, open_run, start_run, store_errors, tracked_run
from demand.workspace.workspace import PROJECT_ROOT, Workspace


def test_what_is_logged_is_found_by_another_client(workspace: Workspace, tmp_path: Path) -> None:
    report = tmp_path / "reports"
    report.mkdir()
    (report / "metrics.json").write_text("{}", encoding="utf-8")
    with tracked_run("training", tags={"data_md5": "abc", "dvc_version": None}) as run:
        run.log_params({"training": {"hidden": [8, 4]}, "seed": 1})
        run.log_metrics({"rmse": 0.2})
        run.log_curves({"loss": [0.5, math.nan, 0.3]})
        run.client.log_artifacts(run.run_id, str(report), "reports")
    found = mlflow_client(workspace).get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"training.hidden": "[8, 4]", "seed": "1"}
    assert found.data.tags["data_md5"] == "abc"
    assert "dvc_version" not in found.data.tags
    assert found.data.metrics == {"rmse": 0.2, "loss": 0.3}
    curve = mlflow_client(workspace).get_metric_history(run.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(0, 0.5), (2, 0.3)]
    assert (workspace.mlflow_artifacts / run.run_id / "artifacts/reports/metrics.json").is_file()


def test_a_run_can_belong_to_another_experiment(workspace: Workspace) -> None:
    runs = [start_run("a"), start_run("b", experiment="other"), start_run("c", experiment="other")]
    client = mlflow_client(workspace)
    names = [client.get_experiment(run.experiment_id).name for run in runs]
    assert names == ["demand-training", "other", "other"]


def test_more_parameters_than_one_batch_holds_are_all_logged(workspace: Workspace) -> None:
    run = start_run("many")
    run.log_params({f"p{i}": i for i in range(250)})
    assert len(mlflow_client(workspace).get_run(run.run_id).data.params) == 250


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_that_breaks_off_says_so(
    workspace: Workspace, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), tracked_run("broken") as run:
        raise error
    assert mlflow_client(workspace).get_run(run.run_id).info.status == status


def test_another_step_goes_on_with_a_run(workspace: Workspace) -> None:
    run = start_run("training")
    open_run(run.run_id).log_metrics({"rmse": 0.2})
    assert mlflow_client(workspace).get_run(run.run_id).data.metrics == {"rmse": 0.2}


def test_an_unknown_run_is_named(workspace: Workspace) -> None:
    with pytest.raises(StateError, match="no run 0123"):
        open_run("0123")


def test_a_damaged_database_is_named_at_once(workspace: Workspace) -> None:
    workspace.mlflow_database.write_bytes(b"no database")
    with pytest.raises(StateError, match=r"mlflow\.db \(it is no SQLite file\): restore it"):
        start_run("training")


def truncate(workspace: Workspace) -> None:
    with workspace.mlflow_database.open("r+b") as database:
        database.truncate(200_000)


def told(action: Callable[[], object]) -> str:
    with pytest.raises(StateError) as caught:
        action()
    return str(caught.value)


def test_a_truncated_database_is_named_without_sql(workspace: Workspace) -> None:
    truncate(workspace)
    assert told(lambda: mlflow_client(workspace)) == (
        f"cannot use MLflow's database {workspace.mlflow_database} (database disk image is "
        "malformed): restore it from a backup, or move it away and retrain"
    )


def test_a_database_that_breaks_under_a_client_is_named_without_sql(workspace: Workspace) -> None:
    registry = Registry(workspace)
    truncate(workspace)
    for action in (registry.champion, lambda: start_run("training", workspace=workspace)):
        said = told(action)
        assert f"{workspace.mlflow_database} (database disk image is malformed): restore it" in said
        assert "SELECT" not in said


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("database is locked", r"another process is using MLflow's database .*: try again"),
        ("database or disk is full", "cannot write a database: database or disk is full"),
        ("no such table: runs", r"\(no such table: runs\): restore it"),
    ],
)
def test_what_the_database_says_decides_the_way_out(
    workspace: Workspace, cause: str, words: str
) -> None:
    failure = OperationalError("SELECT 1", {}, sqlite3.OperationalError(cause))
    failure.__cause__ = failure.orig
    with pytest.raises(StateError, match=words), store_errors(workspace):
        raise MlflowException(str(failure)) from failure


def test_two_processes_log_at_once(workspace: Workspace) -> None:
    code = (
        "from demand.registry.tracking import tracked_run\n"
        "with tracked_run('twin') as run:\n"
        "    for i in range(10):\n"
        "        run.log_curves({f'm{i}': [1.0, 2.0]})\n"
        "print(run.run_id)\n"
    )
    command = [sys.executable, "-c", code]
    both = [
        subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    runs = [process.communicate()[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [len(mlflow_client(workspace).get_run(run).data.metrics) for run in runs] == [10, 10]


def test_mlflow_says_nothing_on_the_way(workspace: Workspace) -> None:
    code = "from demand.registry.tracking import start_run; start_run('quiet')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout + done.stderr == ""
