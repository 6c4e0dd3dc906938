"""Real model servers: deployed, replaced, killed, brought back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from demand.config import DeploySettings
from demand.dashboard.local_server import free_port
from demand.errors import ModelError, ServingError
from demand.ingestion.records import frame_from_records
from demand.serving import processes, server
from demand.serving.mlflow_model import EXAMPLE_ADS, SAMPLES_FILE, log_model
from demand.serving.model_files import folder_digest
from demand.serving.processes import ServerProcess
from demand.serving.registry import Registry
from demand.serving.server import active, deploy, serve, stop
from demand.serving.status import status
from demand.serving.tracking import start_run
from demand.serving.versions import RegisteredVersion
from demand.state import PROJECT_ROOT, Home, read_json, write_json
from tests.serving.standin import LOADER, Standin

pytestmark = pytest.mark.e2e

AD = {"title": "Стол письменный", "category_name": "Мебель и интерьер", "price": 500}
SAMPLES = frame_from_records(EXAMPLE_ADS)


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Home:
    place = Home(tmp_path_factory.mktemp("installation"))
    run = start_run("training", place=place)
    for version, bias in (("1", 0.1), ("2", 0.2)):
        model_id = log_model(run, Standin(bias), SAMPLES, loader_module=LOADER)
        Registry(place).register_challenger(
            model_id, data_md5=f"md5-{version}", fingerprint=version, metrics={"rmse": bias}
        )
    return place


@pytest.fixture
def place(two_versions: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    place = Home(tmp_path / "home")
    place.root.mkdir()
    shutil.copy(two_versions.mlflow_database, place.mlflow_database)
    monkeypatch.setenv("DEMAND_HOME", str(place.root))
    yield place
    stop(place)


@pytest.fixture
def settings() -> DeploySettings:
    return DeploySettings(port=free_port(24000 + os.getpid() % 2000))


def version(number: str) -> RegisteredVersion:
    return Registry().version(number)


def answer(endpoint: str, timeout: float = 10) -> float:
    with requests.Session() as session:
        session.trust_env = False  # no proxy for loopback
        reply = session.post(endpoint, json={"dataframe_records": [AD]}, timeout=timeout)
    reply.raise_for_status()
    return float(reply.json()["predictions"][0])


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.05)


def servers(place: Home) -> list[psutil.Process]:
    """Return the supervisors of this installation that run, and what runs without one."""
    found = {}
    for process in psutil.process_iter(["cmdline", "status", "ppid"]):
        command = process.info["cmdline"] or []
        running = process.info["status"] != psutil.STATUS_ZOMBIE
        if running and any(str(place.serving) in part for part in command):
            found[process.pid] = process
    return [process for process in found.values() if process.info["ppid"] not in found]


def model_server(supervisor: int) -> psutil.Process:
    """Return the process that answers."""
    (child,) = psutil.Process(supervisor).children()
    return child


def test_a_deployed_version_answers_and_is_told_by_status(
    place: Home, settings: DeploySettings
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


def test_a_version_that_serves_already_is_kept(place: Home, settings: DeploySettings) -> None:
    assert deploy(version("1"), settings) == deploy(version("1"), settings)
    assert len(servers(place)) == 1


def test_a_new_version_takes_over_and_the_old_server_ends(
    place: Home, settings: DeploySettings
) -> None:
    old = deploy(version("1"), settings)
    answering = model_server(old.server.pid)
    new = deploy(version("2"), settings)
    assert answer(new.endpoint) == pytest.approx(Standin(0.2).predict(frame_from_records([AD]))[0])
    assert [process.pid for process in servers(place)] == [new.server.pid]
    assert old.server.process() is None
    assert not answering.is_running()
    assert sorted(path.name for path in place.serving.iterdir()) == ["2", "active.json", "started"]


def test_requests_go_on_without_a_gap_while_a_version_takes_over(
    place: Home, settings: DeploySettings
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
    place: Home, settings: DeploySettings, tmp_path: Path
) -> None:
    old = deploy(version("1"), settings)
    wrong = tampered_version(tmp_path)
    with pytest.raises(ServingError, match=r"for sample ad 0, the Predictor 0\.5"):
        deploy(wrong, settings)
    assert active() == old
    assert old.server.answers()
    assert [process.pid for process in servers(place)] == [old.server.pid]


def test_a_server_that_dies_at_its_start_is_told_with_its_log(
    place: Home, settings: DeploySettings, tmp_path: Path
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
    place: Home, settings: DeploySettings
) -> None:
    hasty = settings.model_copy(update={"startup_timeout_s": 0.2})
    with pytest.raises(ServingError, match=r"did not answer at .* within 0\.2 s"):
        deploy(version("1"), hasty)
    assert servers(place) == []
    assert active() is None


def test_damaged_files_are_refused_before_anything_starts(
    place: Home, settings: DeploySettings, tmp_path: Path
) -> None:
    old = deploy(version("1"), settings)
    missing = replace(version("2"), source=tmp_path / "nowhere")
    with pytest.raises(ModelError, match="nowhere is missing or damaged"):
        deploy(missing, settings)
    assert active() == old


def test_a_taken_port_is_passed_over(place: Home, settings: DeploySettings) -> None:
    with socket.create_server(("127.0.0.1", settings.port)):
        deployment = deploy(version("1"), settings)
    assert deployment.server.port > settings.port
    assert status().healthy


def test_a_host_of_another_machine_is_named(place: Home, settings: DeploySettings) -> None:
    elsewhere = settings.model_copy(update={"host": "192.0.2.1"})
    with pytest.raises(ServingError, match=r"cannot listen on 192\.0\.2\.1.*deploy\.host"):
        deploy(version("1"), elsewhere)


def test_a_server_whose_supervisor_was_killed_ends_is_told_and_brought_back(
    place: Home, settings: DeploySettings
) -> None:
    Registry().promote("1", "first")
    dead = serve(settings)
    psutil.Process(dead.server.pid).kill()
    wait_for(lambda: servers(place) == [])
    told = status()
    assert not told.healthy
    assert told.problem is not None
    assert "run `demand serve`" in told.problem
    back = serve(settings)
    assert back.server.pid != dead.server.pid
    assert status().problem is None


def test_a_hanging_server_is_replaced_and_ended(
    place: Home, settings: DeploySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_STOP_TIMEOUT_S", 1.0)
    Registry().promote("1", "first")
    hanging = serve(settings)
    model_server(hanging.server.pid).suspend()
    back = serve(settings)
    assert back.server.answers()
    assert [process.pid for process in servers(place)] == [back.server.pid]


def test_another_process_with_the_recorded_id_is_left_alone(
    place: Home, settings: DeploySettings
) -> None:
    ours = psutil.Process()
    stranger = ServerProcess(
        ours.pid, ours.create_time() - 3600, "127.0.0.1", settings.port, "1", "log"
    )
    write_json(
        place.serving / "active.json", {"server": asdict(stranger), "started_at": "2026-01-01"}
    )
    assert not status().healthy
    assert not stop()
    assert ours.is_running()


def test_the_server_outlives_the_process_that_deployed_it(
    place: Home, settings: DeploySettings
) -> None:
    code = (
        "from demand.config import DeploySettings\n"
        "from demand.serving.registry import Registry\n"
        "from demand.serving.server import deploy\n"
        f"deploy(Registry().version('1'), DeploySettings(port={settings.port}))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)
    assert status().healthy
    assert stop()
    assert status().endpoint is None


# Killed before and after it could record which process it had started.
@pytest.mark.parametrize("step", ["write_json", "check_answers"])
def test_what_a_killed_deployment_left_is_ended_by_the_next(
    place: Home, settings: DeploySettings, step: str
) -> None:
    code = (
        "import os, signal\n"
        "from demand.config import DeploySettings\n"
        "from demand.serving import server\n"
        "from demand.serving.registry import Registry\n"
        "def killed(*_):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"server.{step} = killed\n"
        f"server.deploy(Registry().version('1'), DeploySettings(port={settings.port}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(servers(place)) == 1
    deployment = deploy(version("2"), settings)
    assert [process.pid for process in servers(place)] == [deployment.server.pid]


def test_ctrl_c_at_the_very_start_leaves_no_server(
    place: Home, settings: DeploySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = deploy(version("1"), settings)

    def interrupted(*arguments: Any) -> None:
        processes.start_server(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "start_server", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deploy(version("2"), settings)
    assert [process.pid for process in servers(place)] == [old.server.pid]


def test_a_damaged_record_is_replaced_and_what_served_serves_until_then(
    place: Home, settings: DeploySettings, tmp_path: Path
) -> None:
    old = deploy(version("1"), settings)
    (place.serving / "active.json").write_text("{", encoding="utf-8")
    with pytest.raises(ServingError, match="for sample ad 0"):
        deploy(tampered_version(tmp_path), settings)
    assert old.server.answers()
    new = deploy(version("2"), settings)
    assert active() == new
    assert [process.pid for process in servers(place)] == [new.server.pid]


def test_without_a_champion_there_is_nothing_to_serve(
    place: Home, settings: DeploySettings
) -> None:
    with pytest.raises(ModelError, match="no champion yet"):
        serve(settings)
    told = status()
    assert (told.champion, told.healthy) == (None, False)
    assert not stop()


def test_a_killed_model_server_comes_back_by_itself_at_the_same_endpoint(
    place: Home, settings: DeploySettings
) -> None:
    Registry().promote("1", "first")
    deployment = serve(settings)
    killed = model_server(deployment.server.pid)
    killed.kill()
    # Not healthy is told at once, though whoever connects now waits for an answer.
    assert not deployment.server.answers(0.1)
    expected = Standin(0.1).predict(frame_from_records([AD]))[0]
    assert answer(deployment.endpoint, timeout=60) == pytest.approx(expected, abs=1e-12)
    assert model_server(deployment.server.pid) != killed
    assert active() == deployment
    command = [sys.executable, "-m", "demand.cli", "status", "--json"]
    told = json.loads(subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True).stdout)
    assert (told["healthy"], told["problem"], told["endpoint"], told["pid"]) == (
        (True, None, deployment.endpoint, deployment.server.pid)
    )
    assert "was killed by SIGKILL" in Path(deployment.server.log).read_text(encoding="utf-8")


def test_status_says_to_wait_while_a_killed_model_server_is_started_again(
    place: Home, settings: DeploySettings
) -> None:
    Registry().promote("1", "first")
    deployment = serve(settings)
    supervisor = psutil.Process(deployment.server.pid)
    killed = model_server(supervisor.pid)
    # So that it does not answer before it was asked.
    supervisor.suspend()
    killed.kill()
    told = status()
    assert (told.healthy, told.pid) == (False, supervisor.pid)
    assert told.problem is not None
    assert "its supervisor starts it again: wait some seconds" in told.problem
    supervisor.resume()
    wait_for(lambda: status().problem is None, 60)


def test_requests_wait_and_none_is_refused_while_a_killed_model_server_comes_back(
    place: Home, settings: DeploySettings
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
    victim = model_server(deployment.server.pid)
    victim.kill()
    victim.wait(10)
    killed.set()
    before = len(answers)
    wait_for(lambda: len(answers) > before + 20, 60)
    done.set()
    for thread in asking:
        thread.join()
    assert failures == []
