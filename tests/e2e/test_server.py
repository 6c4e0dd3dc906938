"""Real model servers: deployed, replaced, stopped."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from demand.config import DeploySettings
from demand.errors import ModelError, ServingError
from demand.registry.model_files import folder_digest
from demand.registry.packaging import SAMPLES_FILE
from demand.registry.registry import Registry
from demand.registry.versions import RegisteredVersion
from demand.schema.records import frame_from_records
from demand.serving import processes
from demand.serving.deployment import active, deploy, serve, status, stop
from demand.serving.processes import ServerProcess
from demand.workspace.workspace import PROJECT_ROOT, Workspace, read_json, write_json
from tests.e2e.model_servers import AD, answer, servers, version, wait_for, workers
from tests.serving.standin import Standin

pytestmark = pytest.mark.e2e


def test_a_deployed_version_answers_and_is_told_by_status(
    workspace: Workspace, settings: DeploySettings
) -> None:
    Registry().promote("1", "first")
    deployment = deploy(version("1"), settings)
    expected = Standin(0.1).predict(frame_from_records([AD]))[0]
    assert answer(deployment.endpoint) == pytest.approx(expected, abs=1e-12)
    told = status()
    assert deployment.endpoint == f"http://127.0.0.1:{settings.port}/invocations"
    assert (told.champion, told.version, told.endpoint, told.healthy, told.problem) == (
        ("1", "1", deployment.endpoint, True, None)
    )
    assert (told.data_md5, told.metrics, told.pid) == (
        ("md5-1", {"rmse": 0.1}, deployment.server.pid)
    )


def test_a_version_that_serves_already_is_kept(
    workspace: Workspace, settings: DeploySettings
) -> None:
    assert deploy(version("1"), settings) == deploy(version("1"), settings)
    assert len(servers(workspace)) == 1


def test_a_new_version_takes_over_and_the_old_server_ends(
    workspace: Workspace, settings: DeploySettings
) -> None:
    old = deploy(version("1"), settings)
    answering = workers(old.server.pid)
    new = deploy(version("2"), settings)
    assert answer(new.endpoint) == pytest.approx(Standin(0.2).predict(frame_from_records([AD]))[0])
    assert [process.pid for process in servers(workspace)] == [new.server.pid]
    assert old.server.process() is None
    assert not any(worker.is_running() for worker in answering)
    assert {path.name for path in workspace.serving.iterdir()} == {"2", "active.json"}


def test_requests_go_on_without_a_gap_while_a_version_takes_over(
    workspace: Workspace, settings: DeploySettings
) -> None:
    deploy(version("1"), settings)
    done = threading.Event()
    failures: list[str] = []
    answers: set[float] = set()

    def ask() -> None:
        while not done.is_set():
            deployment = active()
            assert deployment is not None
            try:
                answers.add(round(answer(deployment.endpoint), 6))
            except OSError as error:
                # The record may have changed between reading it and asking.
                if active() == deployment:
                    failures.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    deploy(version("2"), settings)
    wait_for(lambda: len(answers) == 2)
    done.set()
    asking.join()
    assert failures == []


def tampered_version(tmp_path: Path) -> RegisteredVersion:
    """Return version 2 as if its Predictor had answered otherwise."""
    folder = tmp_path / "tampered"
    shutil.copytree(version("2").source, folder)
    kept = read_json(folder / SAMPLES_FILE)
    write_json(folder / SAMPLES_FILE, kept | {"predictions": [0.5, 0.5]})
    return replace(version("2"), source=folder, files_sha256=folder_digest(folder))


def test_wrong_answers_are_refused_and_the_old_version_stays(
    workspace: Workspace, settings: DeploySettings, tmp_path: Path
) -> None:
    old = deploy(version("1"), settings)
    wrong = tampered_version(tmp_path)
    with pytest.raises(ServingError, match=r"for sample ad 0, the Predictor 0\.5"):
        deploy(wrong, settings)
    assert active() == old
    assert old.server.answers()
    assert [process.pid for process in servers(workspace)] == [old.server.pid]


def test_a_server_that_dies_at_its_start_is_told_with_its_log(
    workspace: Workspace, settings: DeploySettings, tmp_path: Path
) -> None:
    old = deploy(version("1"), settings)
    folder = tmp_path / "broken"
    shutil.copytree(version("2").source, folder)
    (folder / "data/predictor/model.json").write_text("{", encoding="utf-8")
    broken = replace(version("2"), source=folder, files_sha256=folder_digest(folder))
    began = time.monotonic()
    with pytest.raises(
        ServingError, match=r"(?s)ended at its start; its log .*JSONDecodeError"
    ) as said:
        deploy(broken, settings)
    assert time.monotonic() - began < settings.startup_timeout_s / 2
    assert "Traceback" not in str(said.value)
    assert active() == old
    assert old.server.answers()


def test_a_server_that_is_silent_for_too_long_is_stopped(
    workspace: Workspace, settings: DeploySettings
) -> None:
    hasty = settings.model_copy(update={"startup_timeout_s": 0.2})
    with pytest.raises(ServingError, match=r"did not answer at .* within 0\.2 s"):
        deploy(version("1"), hasty)
    assert servers(workspace) == []
    assert active() is None


def test_damaged_files_are_refused_before_anything_starts(
    workspace: Workspace, settings: DeploySettings, tmp_path: Path
) -> None:
    old = deploy(version("1"), settings)
    missing = replace(version("2"), source=tmp_path / "nowhere")
    with pytest.raises(ModelError, match="nowhere are missing or damaged"):
        deploy(missing, settings)
    assert active() == old


def test_a_taken_port_is_passed_over(workspace: Workspace, settings: DeploySettings) -> None:
    with socket.create_server(("127.0.0.1", settings.port)):
        deployment = deploy(version("1"), settings)
    assert deployment.server.port > settings.port
    assert status().healthy


def test_a_host_of_another_machine_is_named(workspace: Workspace, settings: DeploySettings) -> None:
    elsewhere = settings.model_copy(update={"host": "192.0.2.1"})
    with pytest.raises(ServingError, match=r"cannot listen on 192\.0\.2\.1.*deploy\.host"):
        deploy(version("1"), elsewhere)


def test_another_process_with_the_recorded_id_is_left_alone(
    workspace: Workspace, settings: DeploySettings
) -> None:
    ours = psutil.Process()
    stranger = ServerProcess(
        ours.pid, ours.create_time() - 3600, "127.0.0.1", settings.port, "1", "log"
    )
    write_json(
        workspace.serving / "active.json", {"server": asdict(stranger), "started_at": "2026-01-01"}
    )
    assert not status().healthy
    assert not stop()
    assert ours.is_running()


def test_the_server_outlives_the_process_that_deployed_it(
    workspace: Workspace, settings: DeploySettings
) -> None:
    code = (
        "from demand.config import DeploySettings\n"
        "from demand.registry.registry import Registry\n"
        "from demand.serving.deployment import deploy\n"
        f"deploy(Registry().version('1'), DeploySettings(port={settings.port}))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)
    assert status().healthy
    assert stop()
    assert status().endpoint is None


# Killed before the server has proved itself, and after.
@pytest.mark.parametrize("step", ["write_json", "check_answers"])
def test_what_a_killed_deployment_left_is_ended_by_the_next(
    workspace: Workspace, settings: DeploySettings, step: str
) -> None:
    code = (
        "import os, signal\n"
        "from demand.config import DeploySettings\n"
        "from demand.serving import deployment\n"
        "from demand.registry.registry import Registry\n"
        "def killed(*_):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"deployment.{step} = killed\n"
        f"deployment.deploy(Registry().version('1'), DeploySettings(port={settings.port}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(servers(workspace)) == 1
    deployment = deploy(version("2"), settings)
    assert [process.pid for process in servers(workspace)] == [deployment.server.pid]


def test_ctrl_c_at_the_very_start_leaves_no_server(
    workspace: Workspace, settings: DeploySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = deploy(version("1"), settings)

    def interrupted(*arguments: Any) -> None:
        processes.start_server(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("demand.serving.deployment.start_server", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deploy(version("2"), settings)
    assert [process.pid for process in servers(workspace)] == [old.server.pid]


def test_a_damaged_record_is_replaced_and_what_served_serves_until_then(
    workspace: Workspace, settings: DeploySettings, tmp_path: Path
) -> None:
    old = deploy(version("1"), settings)
    (workspace.serving / "active.json").write_text("{", encoding="utf-8")
    with pytest.raises(ServingError, match="for sample ad 0"):
        deploy(tampered_version(tmp_path), settings)
    assert old.server.answers()
    new = deploy(version("2"), settings)
    assert active() == new
    assert [process.pid for process in servers(workspace)] == [new.server.pid]


def test_without_a_champion_there_is_nothing_to_serve(
    workspace: Workspace, settings: DeploySettings
) -> None:
    with pytest.raises(ModelError, match="no champion yet"):
        serve(settings)
    told = status()
    assert (told.champion, told.healthy) == (None, False)
    assert not stop()
