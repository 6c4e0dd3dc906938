"""`demand api` as a process, in front of a real registry and a real model server."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from demand.config import DeploySettings
from demand.registry.packaging import log_model
from demand.registry.registry import Registry
from demand.registry.tracking import mlflow_client, tracked_run
from demand.serving.deployment import roll_back, roll_out, stop
from demand.serving.http.server import free_port
from demand.workspace.workspace import PROJECT_ROOT, Workspace
from tests.ads_factory import make_ads
from tests.e2e.api import Api
from tests.e2e.installation import AD
from tests.tiny_model import tiny_predictor

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    home = Workspace(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEMAND_HOME", str(home.root))
        mlflow_client(home)
        yield home
        stop(home)


def settings() -> DeploySettings:
    return DeploySettings(port=free_port(23000 + os.getpid() % 2000))


def promote(workspace: Workspace, number: int) -> None:
    with tracked_run("training", tags={}) as run:
        model_id = log_model(run, tiny_predictor(), make_ads(8))
    registry = Registry(workspace)
    registry.register_challenger(
        model_id, data_md5="", fingerprint=str(number), metrics={"rmse": 0.2}, tags={}
    )
    registry.promote(str(number), "test")


@pytest.fixture(scope="module")
def api(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    started = Api(workspace, tmp_path_factory.mktemp("api") / "api.log")
    try:
        started.wait("/ready", 503)
        yield started
    finally:
        started.end()


def test_before_the_first_champion_it_lives_and_says_what_is_missing(api: Api) -> None:
    answer = requests.post(f"{api.url}/predict", json=AD, timeout=5)
    assert answer.status_code == 503
    assert "run.py --pipeline training" in answer.json()["detail"]


def test_the_first_champion_is_answered_with_soon(api: Api, workspace: Workspace) -> None:
    promote(workspace, 1)
    roll_out("1", settings())
    assert api.wait("/ready", 200)["model_version"] == "1"
    assert api.version() == "1"


def test_switches_and_rollbacks_fail_no_request(api: Api, workspace: Workspace) -> None:
    promote(workspace, 2)
    failures: list[str] = []
    seen: set[str] = set()
    over = threading.Event()

    def ask(path: str, body: dict[str, Any]) -> None:
        with requests.Session() as session:
            while not over.is_set():
                answer = session.post(api.url + path, json=body, timeout=40)
                if answer.status_code != 200:
                    failures.append(f"{path} {answer.status_code}: {answer.text[:200]}")
                elif path == "/predict":
                    seen.add(answer.json()["model_version"])

    asking = [
        threading.Thread(target=ask, args=("/predict", AD)),
        threading.Thread(target=ask, args=("/invocations", {"dataframe_records": [AD]})),
    ]
    for thread in asking:
        thread.start()
    chosen = settings()
    roll_out("2", chosen)
    time.sleep(2)
    roll_back(None, "a test", chosen)
    time.sleep(2)
    over.set()
    for thread in asking:
        thread.join()
    assert failures == []
    assert seen == {"1", "2"}
    assert api.version() == "1"


def test_a_damaged_champion_is_refused_and_the_one_before_goes_on(
    api: Api, workspace: Workspace
) -> None:
    damaged = Registry(workspace).version("2")
    shutil.rmtree(damaged.source / "data")
    # Our own commands would not make it champion; MLflow's UI does, and is followed more slowly.
    mlflow_client(workspace).set_registered_model_alias("demand", "champion", "2")
    deadline = time.monotonic() + 60
    while "2 is refused" not in str(requests.get(f"{api.url}/info", timeout=5).json()["problem"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert api.version() == "1"
    mlflow_client(workspace).set_registered_model_alias("demand", "champion", "1")


def test_a_body_that_never_comes_holds_nobody_up(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.port)) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert api.version() == "1"


def test_far_too_many_at_a_time_hear_no_at_once(api: Api) -> None:
    """Batches that take long, on many more connections than are let in."""
    body = json.dumps([AD] * 4000).encode()
    found: list[tuple[int, float]] = []

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
        for _ in range(2):  # the second on the connection of the first
            started = time.monotonic()
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            found.append((answer.status, time.monotonic() - started))

    asking = [threading.Thread(target=ask) for _ in range(60)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(found) == 120
    assert {status for status, _ in found} == {200, 503}
    assert api.version() == "1"


def test_a_port_that_is_taken_is_named(api: Api, workspace: Workspace) -> None:
    command = [sys.executable, "-m", "cli.main", "api", "--port", str(api.port)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_ROOT, timeout=60)
    assert run.returncode == 1
    assert f"cannot listen on 127.0.0.1:{api.port}" in run.stderr
    assert "Traceback" not in run.stderr


def test_it_ends_when_it_is_asked_to(workspace: Workspace, tmp_path: Path) -> None:
    another = Api(workspace, tmp_path / "api.log")
    another.wait("/health", 200)
    assert another.end() == 0
    log = (tmp_path / "api.log").read_text(encoding="utf-8")
    assert "Traceback" not in log
