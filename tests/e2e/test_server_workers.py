"""Real model servers whose processes are killed, or hang."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from demand.config import DeploySettings
from demand.registry.registry import Registry
from demand.schema.records import frame_from_records
from demand.serving import processes
from demand.serving.deployment import active, deploy, serve, status
from demand.workspace.workspace import PROJECT_ROOT, Workspace
from tests.e2e.model_servers import AD, answer, servers, version, wait_for, workers
from tests.serving.standin import Standin

pytestmark = pytest.mark.e2e


def test_a_server_whose_master_was_killed_ends_is_told_and_brought_back(
    workspace: Workspace, settings: DeploySettings
) -> None:
    Registry().promote("1", "first")
    dead = serve(settings)
    psutil.Process(dead.server.pid).kill()
    wait_for(lambda: servers(workspace) == [])
    told = status()
    assert not told.healthy
    assert told.problem is not None
    assert "run `demand serve`" in told.problem
    back = serve(settings)
    assert back.server.pid != dead.server.pid
    assert status().problem is None


def test_a_hanging_server_is_replaced_and_ended(
    workspace: Workspace, settings: DeploySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_STOP_TIMEOUT_S", 1.0)
    Registry().promote("1", "first")
    hanging = serve(settings)
    for worker in workers(hanging.server.pid):
        worker.suspend()
    back = serve(settings)
    assert back.server.answers()
    assert [process.pid for process in servers(workspace)] == [back.server.pid]


def test_killed_workers_come_back_by_themselves_at_the_same_endpoint(
    workspace: Workspace, settings: DeploySettings
) -> None:
    Registry().promote("1", "first")
    deployment = serve(settings)
    killed = workers(deployment.server.pid)
    for worker in killed:
        worker.kill()
    expected = Standin(0.1).predict(frame_from_records([AD]))[0]
    wait_for(deployment.server.answers)
    assert answer(deployment.endpoint, timeout=60) == pytest.approx(expected, abs=1e-12)
    assert not set(workers(deployment.server.pid)) & set(killed)
    assert active() == deployment
    command = [sys.executable, "-m", "cli.main", "status", "--json"]
    told = json.loads(subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True).stdout)
    assert (told["healthy"], told["problem"], told["endpoint"], told["pid"]) == (
        (True, None, deployment.endpoint, deployment.server.pid)
    )
    log = Path(deployment.server.log).read_text(encoding="utf-8")
    assert "Unexpected exit from worker-" in log
    assert "Traceback" not in log


def test_status_says_to_wait_while_killed_workers_are_started_again(
    workspace: Workspace, settings: DeploySettings
) -> None:
    Registry().promote("1", "first")
    deployment = serve(settings)
    master = psutil.Process(deployment.server.pid)
    killed = workers(master.pid)
    # So that they do not answer before it was asked.
    master.suspend()
    for worker in killed:
        worker.kill()
    told = status()
    assert (told.healthy, told.pid) == (False, master.pid)
    assert told.problem is not None
    assert "its master starts it again: wait some seconds" in told.problem
    master.resume()
    wait_for(lambda: status().problem is None, 60)


def test_a_server_that_dies_again_and_again_ends_and_is_told(
    workspace: Workspace, settings: DeploySettings
) -> None:
    Registry().promote("1", "first")
    deployment = serve(settings)

    def kill_all() -> bool:
        if deployment.server.process() is not None:
            for worker in psutil.Process(deployment.server.pid).children():
                worker.kill()
        return deployment.server.process() is None

    wait_for(kill_all)
    told = status()
    assert told.problem is not None
    assert "run `demand serve`" in told.problem
    log = Path(deployment.server.log).read_text(encoding="utf-8")
    assert "error: a worker ended again just after it had been replaced" in log


def test_no_request_is_refused_while_a_killed_worker_comes_back(
    workspace: Workspace, settings: DeploySettings
) -> None:
    deployment = deploy(version("1"), settings)
    done, killed = threading.Event(), threading.Event()
    answers: list[float] = []
    failures: list[OSError] = []

    def ask() -> None:
        while not done.is_set():
            asked_after = killed.is_set()
            try:
                answers.append(answer(deployment.endpoint, timeout=60))
            except OSError as error:
                # Those in progress at the kill are lost; nothing can save them.
                if asked_after or "refused" in str(error):
                    failures.append(error)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    wait_for(lambda: len(answers) > 20)
    victim = workers(deployment.server.pid)[0]
    victim.kill()
    wait_for(lambda: victim not in workers(deployment.server.pid))
    killed.set()
    before = len(answers)
    wait_for(lambda: len(answers) > before + 20, 60)
    done.set()
    for thread in asking:
        thread.join()
    assert failures == []
