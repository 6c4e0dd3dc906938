"""The search through its door: ``python run.py --pipeline tuning``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from demand.config import TrainingConfig, load_config
from demand.demo import write_demo
from demand.registry.tracking import mlflow_client
from demand.workspace.workspace import Workspace, read_json
from tests.e2e.door import Door
from tests.e2e.installation import Installation, rows_of, wait_for

pytestmark = pytest.mark.e2e

TRIALS = 2
STATES = "select state from trials order by trial_id"
TUNE_INPUTS = """
    select artifact.name from step_run_input_artifact as artifact
    join step_run on step_run.id = artifact.step_id where step_run.name = 'tune'
"""


@pytest.fixture(scope="module")
def installation(new_installation: Callable[[], Installation]) -> Installation:
    return new_installation()


@pytest.fixture(scope="module")
def ads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("few") / "ads.csv"
    write_demo(path, 400, 7)
    return path


def command(installation: Installation, data: Path) -> list[str]:
    """Return a search whose trials last long enough to be interrupted."""
    slow = {"epochs_max": 60, "patience": 60}
    base = installation.write_config("base.yaml", training=slow)
    config = installation.folder / "tuning.yaml"
    space = {"training.dropout": {"low": 0, "high": 0.5}}
    config.write_text(yaml.safe_dump({"base": base.name, "folds": 3, "space": space}))
    return [
        *(sys.executable, "run.py", "--pipeline", "tuning", "--trials", str(TRIALS)),
        *("--data", str(data), "--config", str(config)),
    ]


def test_a_search_that_is_killed_goes_on_where_it_was(
    installation: Installation, door: Door, ads: Path
) -> None:
    asked = command(installation, ads)
    studies = Workspace(installation.home).studies
    killed = door.start_pipeline(installation, asked)
    wait_for(
        lambda: rows_of(studies, STATES) == [("COMPLETE",), ("RUNNING",)] or not killed.running,
        120,
        "the second trial",
    )
    second = door.start_pipeline(installation, asked)
    assert (second.wait(), killed.running) == (1, True), second.printed + killed.printed
    assert "is using" in second.last_line
    killed.send(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL

    again = door.start_pipeline(installation, asked)
    assert again.wait() == 0, again.printed
    assert rows_of(studies, STATES) == [("COMPLETE",), ("FAIL",), ("COMPLETE",)]
    reports = installation.reports.parent / "tuning"
    metrics = read_json(reports / "metrics.json")
    assert (metrics["trials_finished"], metrics["trials_interrupted"]) == (TRIALS, 1)
    assert metrics["best_rmse"] <= metrics["base_rmse"]
    assert pd.read_csv(reports / "trials.csv")["state"].tolist() == ["finished"] * TRIALS
    config = load_config(reports / "best.yaml", TrainingConfig)
    assert config.training.dropout == metrics["best"]["training.dropout"]
    assert config.training.epochs_max == 60


def test_only_training_and_validation_rows_were_searched_on(installation: Installation) -> None:
    store = installation.zenml_store / "local_stores" / "default_zen_store" / "zenml.db"
    inputs = {name for (name,) in rows_of(store, TUNE_INPUTS)}
    assert inputs == {"ads", "training_rows", "validation_rows", "lineage"}


def test_the_search_is_one_run_of_mlflow(installation: Installation) -> None:
    client = mlflow_client(Workspace(installation.home))
    experiment = client.get_experiment_by_name("tuning")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["space.training.dropout.high"] == "0.5"
    assert run.data.tags["data_md5"]
    assert len(client.get_metric_history(run.info.run_id, "trial_rmse")) == TRIALS
    files = [file.path for file in client.list_artifacts(run.info.run_id, "reports")]
    plots = ["optimization_history.png", "param_importances.png", "slice.png"]
    names = ["best.yaml", "metrics.json", *plots, "trials.csv"]
    assert files == [f"reports/{name}" for name in names]


def test_a_bad_table_is_refused_by_the_data_gate(
    installation: Installation, door: Door, ads: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    pd.read_csv(ads, dtype=str, keep_default_na=False).head(5).to_csv(bad, index=False)
    run = door.start_pipeline(installation, [*command(installation, bad), "--quiet"])
    assert run.wait() == 2, run.printed
    assert run.printed.startswith("stopped: the data gate said no: ")
    assert run.printed.count("\n") == 1
    reports = installation.reports.parent / "tuning"
    assert not (reports / "best.yaml").exists()
    assert not installation.reports.exists()
