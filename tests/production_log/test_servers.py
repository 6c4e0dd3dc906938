"""Servers as they run in production, and what they leave behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
import requests

from demand.production_log.config import MonitoringConfig
from demand.production_log.store import ProductionLog
from demand.registry.packaging import EXAMPLE_ADS, save_model
from demand.schema.records import frame_from_records
from demand.serving.client import Endpoint
from demand.serving.http.server import free_port
from demand.workspace.workspace import Workspace
from tests.production_log.answered import AD, FAR_AHEAD, LONG_AGO
from tests.served import Served, api, listens, running, wait_for
from tests.serving.standin import LOADER, Standin

pytestmark = pytest.mark.e2e


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return the workspace of an installation whose log is on, as by default."""
    monkeypatch.delenv("DEMAND_LOG_URL")
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "home"))
    return Workspace(tmp_path / "home")


def entries(home: Workspace) -> pd.DataFrame:
    log = ProductionLog(home, MonitoringConfig())
    return log.entries(LONG_AGO, FAR_AHEAD, probes=True)


def test_an_api_that_is_ended_has_written_all_it_answered(home: Workspace, tmp_path: Path) -> None:
    with api(tmp_path / "log", workers=2) as server:
        asked = [server.post("/predict", json=AD) for _ in range(50)]
        assert server.end() == 0
    ids = [each.headers["X-Request-Id"] for each in asked]
    assert sorted(entries(home)["request_id"]) == sorted(ids)


def test_a_worker_that_is_killed_loses_only_what_waited(home: Workspace, tmp_path: Path) -> None:
    with api(tmp_path / "log") as server:
        server.post("/predict", json=AD, headers={"X-Request-Id": "written"})
        wait_for(lambda: len(entries(home)) == 1)
        (worker,) = server.workers
        worker.kill()
        wait_for(lambda: worker not in server.workers and listens("127.0.0.1", server.port))
        server.post("/predict", json=AD, headers={"X-Request-Id": "after"})
        assert server.end() == 0
    assert entries(home)["request_id"].tolist() == ["written", "after"]


def test_a_model_server_logs_what_the_api_passes_on(home: Workspace, tmp_path: Path) -> None:
    save_model(Standin(), tmp_path / "model", frame_from_records(EXAMPLE_ADS), loader_module=LOADER)
    port = free_port(25700)
    # What tells the tests where it listens, since the server itself tells nobody.
    told = f"print('answers at http://127.0.0.1:{port}', file=sys.stderr, flush=True)"
    served = f"{str(tmp_path / 'model')!r}, '--model-version', '7', '--port', '{port}'"
    code = f"import sys; from demand.serving.model_server import main; {told}; main([{served}])"
    command = [sys.executable, "-c", code]
    with running(Served(command, tmp_path / "model.log")) as server:
        wait_for(lambda: listens("127.0.0.1", port))
        with api(tmp_path / "log", model_server=server.url) as front:
            body = {"inputs": [AD]}
            answer = front.post("/invocations", json=body, headers={"X-Request-Id": "passed-on"})
            assert answer.headers["X-Request-Id"] == "passed-on"
            with Endpoint(f"{server.url}/invocations") as endpoint:
                endpoint.ask([AD])
            assert requests.get(f"{server.url}/ping", timeout=20).status_code == 200
        assert server.end() == 0
    found = entries(home)
    assert found["request_id"].tolist()[0] == "passed-on"
    assert found["probe"].tolist() == [False, True]
    assert found["model_version"].tolist() == ["7", "7"]
