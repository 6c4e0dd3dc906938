"""The retraining DAG in a real Airflow: scheduler, workers, API, as ``make airflow`` starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from demand.serving.http.server import LOOPBACK, free_port
from tests.e2e.installation import Installation, answer
from tests.standin_job import is_running, pids, standin_project, tries, wait_for

ROOT = Path(__file__).resolve().parents[2]
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "airflow"
DAG = "/api/v2/dags/retraining"
PROJECT = "AVITO_DEMAND_PROJECT"
START_S, TASK_S, TRAINING_S = 240, 90, 500

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.e2e,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not AIRFLOW.exists(), reason="no Airflow environment: run `make airflow-env`"
    ),
]


@dataclass
class Airflow:
    """A running Airflow and how to ask it."""

    url: str
    process: subprocess.Popen[bytes]
    session: requests.Session

    def call(self, method: str, path: str, body: object = None) -> Any:
        answer = self.session.request(method, self.url + path, json=body, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def train_in(self, project: Path) -> None:
        """Name the project for the next runs, in an Airflow Variable."""
        self.session.delete(f"{self.url}/api/v2/variables/{PROJECT}", timeout=30)
        self.call("POST", "/api/v2/variables", {"key": PROJECT, "value": str(project)})

    def trigger(self, **params: str) -> str:
        body = {"logical_date": None, "conf": params}
        return self.call("POST", f"{DAG}/dagRuns", body)["dag_run_id"]

    def state(self, run: str) -> str:
        return self.call("GET", f"{DAG}/dagRuns/{run}")["state"]

    def tasks(self, run: str) -> dict[str, dict[str, Any]]:
        found = self.call("GET", f"{DAG}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def states(self, run: str) -> dict[str, str]:
        return {name: task["state"] for name, task in self.tasks(run).items()}

    def fail(self, run: str) -> None:
        """Do what a person does who marks a run as failed."""
        self.call("PATCH", f"{DAG}/dagRuns/{run}", {"state": "failed"})

    def log(self, run: str, task: str) -> str:
        path = f"{DAG}/dagRuns/{run}/taskInstances/{task}/logs/1"
        return "\n".join(str(line["event"]) for line in self.call("GET", path)["content"])

    def finish(self, run: str, within_s: float = TASK_S) -> str:
        """Wait until the run is over and return its state."""
        over = ("success", "failed")
        wait_for(lambda: self.state(run) in over, within_s, f"the end of {run}")
        return self.state(run)


def sign_in(url: str, home: Path) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    passwords = home / "simple_auth_manager_passwords.json.generated"
    person = {"username": "admin", "password": json.loads(passwords.read_text())["admin"]}
    token = session.post(f"{url}/auth/token", json=person, timeout=30).json()["access_token"]
    session.headers["Authorization"] = f"Bearer {token}"
    return session


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, installation: Installation
) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("airflow")
    port = free_port(34000 + os.getpid() % 1000)
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_PORT": str(port),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        "AVITO_DEMAND_RETRY_MINUTES": "60",
    }
    output = home / "standalone.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, ROOT / "deployment" / "airflow" / "standalone.py"],
            env=installation.environment | settings,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(
            lambda: process.poll() is not None or "password" in output.read_text(),
            START_S,
            "Airflow is up",
        )
        assert process.poll() is None, output.read_text()
        url = f"http://{LOOPBACK}:{port}"
        running = Airflow(url, process, sign_in(url, home))
        wait_for(
            lambda: running.session.get(url + DAG, timeout=30).ok, START_S, "Airflow knows the DAG"
        )
        running.call("PATCH", DAG, {"is_paused": False})
        yield running
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def standin(airflow: Airflow, tmp_path: Path) -> Path:
    """Return a stand-in project that the next runs train in."""
    project = standin_project(tmp_path / "project")
    airflow.train_in(project)
    return project


def test_the_dag_is_weekly_alone_and_without_catchup(airflow: Airflow) -> None:
    details = airflow.call("GET", f"{DAG}/details")
    assert details["timetable_description"] == "At 03:00, only on Monday"
    assert (details["catchup"], details["max_active_runs"]) == (False, 1)


def test_airflow_listens_on_loopback_only(airflow: Airflow) -> None:
    family = [airflow.process.pid]
    family += [child.pid for child in psutil.Process(airflow.process.pid).children(recursive=True)]
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.pid in family
    }
    assert listening == {LOOPBACK}


def test_the_task_has_a_time_limit(airflow: Airflow) -> None:
    task = airflow.call("GET", f"{DAG}/tasks/retrain")
    assert task["execution_timeout"]["seconds"] == 2 * 60 * 60


def test_an_error_waits_for_another_try(airflow: Airflow, standin: Path) -> None:
    run = airflow.trigger(config="1")
    wait_for(
        lambda: airflow.states(run).get("retrain") == "up_for_retry", TASK_S, "a second try planned"
    )
    airflow.fail(run)
    assert len(tries(standin)) == 1


def test_a_project_that_is_not_set_up_is_told(airflow: Airflow, standin: Path) -> None:
    (standin / ".venv" / "bin" / "python").unlink()
    run = airflow.trigger()
    wait_for(lambda: airflow.states(run).get("retrain") == "up_for_retry", TASK_S, "an error")
    airflow.fail(run)
    assert f"{standin} is not set up: run 'make training'" in airflow.log(run, "retrain")


@pytest.mark.parametrize("value", ["--no-deploy '\"\\ * $(touch x); `id` && true | cat > y", ""])
def test_a_path_reaches_the_job_as_it_is(airflow: Airflow, standin: Path, value: str) -> None:
    assert airflow.finish(airflow.trigger(data=value)) == "success"
    data = [f"--data={value}"] if value else []
    assert tries(standin) == [repr(["--pipeline", "training", *data])]


def test_nothing_of_airflow_reaches_the_job(airflow: Airflow, standin: Path) -> None:
    assert airflow.finish(airflow.trigger()) == "success"
    names = (standin / "environment.log").read_text().splitlines()
    assert "DEMAND_HOME" in names
    assert not [name for name in names if name.lstrip("_").startswith(("AIRFLOW", "PYTHONPATH"))]


def test_a_server_that_the_job_leaves_goes_on(airflow: Airflow, standin: Path) -> None:
    assert airflow.finish(airflow.trigger(config="server")) == "success"
    (server,) = map(psutil.Process, pids(standin))
    server.kill()


def test_an_unknown_parameter_is_told_before_anything_is_trained(
    airflow: Airflow, standin: Path
) -> None:
    run = airflow.trigger(dta="ads.csv")
    wait_for(lambda: airflow.states(run).get("retrain") == "up_for_retry", TASK_S, "an error")
    airflow.fail(run)
    assert "unknown parameters: dta; known are data and config" in airflow.log(run, "retrain")
    assert tries(standin) == []


@pytest.mark.parametrize("value", ["ads.csv\nmore", 5])
def test_a_parameter_of_the_wrong_kind_is_refused(airflow: Airflow, value: object) -> None:
    with pytest.raises(requests.HTTPError, match="400"):
        airflow.trigger(data=value)


def test_marking_a_run_as_failed_ends_the_job_and_its_children_though_it_heeds_no_signal(
    airflow: Airflow, standin: Path
) -> None:
    run = airflow.trigger(config="stubborn")
    wait_for(lambda: len(pids(standin)) == 2, TASK_S, "the job has started")
    airflow.fail(run)
    wait_for(lambda: not any(map(is_running, pids(standin))), TASK_S, "the job has ended")


def test_a_yes_deploys_and_a_no_is_marked_and_leaves_what_serves(
    airflow: Airflow, installation: Installation
) -> None:
    airflow.train_in(ROOT)
    data, config = str(installation.data), str(installation.config)
    yes = airflow.trigger(data=data, config=config)
    assert airflow.finish(yes, TRAINING_S) == "success", airflow.log(yes, "retrain")
    assert airflow.states(yes) == {
        "retrain": "success",
        "deployed": "success",
        "gate_said_no": "skipped",
    }
    served = installation.status()
    answered = answer(served["endpoint"])

    strict = installation.write_config("strict.yaml", gate={"rmse_threshold": 0.01})
    no = airflow.trigger(data=data, config=str(strict))
    assert airflow.finish(no, TRAINING_S) == "success", airflow.log(no, "retrain")
    assert airflow.states(no) == {
        "retrain": "skipped",
        "deployed": "skipped",
        "gate_said_no": "success",
    }
    assert airflow.tasks(no)["retrain"]["try_number"] == 1
    assert "stopped: the rmse gate said no" in airflow.log(no, "retrain")

    still = installation.status()
    assert (still["champion"], still["endpoint"]) == (served["champion"], served["endpoint"])
    assert still["healthy"]
    assert answer(still["endpoint"]) == answered


def test_the_end_of_airflow_ends_the_job_and_its_children(airflow: Airflow, standin: Path) -> None:
    airflow.trigger(config="endless")
    wait_for(lambda: len(pids(standin)) == 2, TASK_S, "the job has started")
    airflow.process.send_signal(signal.SIGINT)
    assert airflow.process.wait(timeout=60) == 0
    wait_for(lambda: not any(map(is_running, pids(standin))), TASK_S, "the job has ended")
