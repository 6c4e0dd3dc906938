"""Real model servers: what serves in the end is what the registry calls champion."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from cli.main import main
from demand.config import DeploySettings
from demand.registry.registry import Registry
from demand.serving.deployment import active, changing, deploy, roll_back, roll_out, serve
from demand.serving.http.server import free_port
from demand.workspace.workspace import PROJECT_ROOT, Workspace, write_json

pytestmark = pytest.mark.e2e


@pytest.fixture
def workspace(workspace: Workspace) -> Workspace:
    """Return an installation whose champion is version 2, and version 1 before it."""
    for version in ("1", "2"):
        Registry().promote(version, "test")
    return workspace


def champion() -> str:
    found = Registry().champion()
    assert found is not None
    return found.version


def assert_champion_serves() -> None:
    deployment = active()
    assert deployment is not None
    assert deployment.server.answers()
    assert deployment.version == champion()


def test_a_version_that_was_rolled_back_before_its_deployment_does_not_serve(
    workspace: Workspace, settings: DeploySettings
) -> None:
    deploy(Registry().version("1"), settings)
    Registry().rollback(reason="while the deployment step has not begun")
    assert roll_out("2", settings).version == "1"
    assert champion() == "1"
    assert_champion_serves()


def waiting_for_the_lock(workspace: Workspace) -> Callable[[], bool]:
    """Return what says whether somebody of this process waits for the lock that we hold."""
    lock = str(workspace.locks / "serving.lock")
    return lambda: [file.path for file in psutil.Process().open_files()].count(lock) == 2


def test_who_waited_while_the_champion_changed_serves_the_new_one(
    workspace: Workspace, settings: DeploySettings
) -> None:
    waiting = waiting_for_the_lock(workspace)
    serving = threading.Thread(target=serve, args=(settings,))
    with changing("test"):
        serving.start()
        deadline = time.monotonic() + 30
        while not waiting():
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
        Registry().rollback(to="1")
    serving.join()
    assert champion() == "1"
    assert_champion_serves()


def test_changes_at_once_end_with_the_champion_serving(
    workspace: Workspace, settings: DeploySettings
) -> None:
    code = (
        "import sys\n"
        "from demand.config import DeploySettings\n"
        "from demand.serving.deployment import roll_back, roll_out\n"
        "from demand.serving.deployment import serve\n"
        f"settings = DeploySettings(port={settings.port})\n"
        "print(flush=True); sys.stdin.readline()\n"
        "{}\n"
    )
    actions = (
        "roll_out('2', settings)",
        "roll_back('1', 'test', settings)",
        "serve(settings)",
        "roll_back('2', 'test', settings)",
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code.format(action)],
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for action in actions
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
    assert [process.wait(120) for process in started] == [0, 0, 0, 0]
    for process in started:
        assert process.stdout is not None
        process.stdout.close()
    assert_champion_serves()


def test_what_is_on_record_is_not_undone_by_a_late_signal(
    workspace: Workspace, settings: DeploySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, value: object) -> None:
        write_json(path, value)
        if path.name == "active.json":
            raise KeyboardInterrupt

    monkeypatch.setattr("demand.serving.deployment.write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        roll_back("1", "test", settings)
    assert champion() == "1"
    assert_champion_serves()


def test_a_signal_before_leaves_all_as_it_was(
    workspace: Workspace, settings: DeploySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = roll_out("2", settings)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("demand.serving.deployment.check_answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        roll_back("1", "test", settings)
    assert (champion(), active()) == ("2", old)
    assert_champion_serves()


def ports(first: int) -> range:
    """Return those that a deployment of a preferred port may have got."""
    return range(first, first + 20)


def port() -> int:
    deployment = active()
    assert deployment is not None
    return deployment.server.port


def test_rollback_and_serve_keep_the_settings_of_the_deployment(
    workspace: Workspace, settings: DeploySettings, tmp_path: Path
) -> None:
    roll_out("2", settings)
    assert main(["rollback"]) == 0
    deployment = active()
    assert deployment is not None
    assert deployment.settings == settings
    assert port() in ports(settings.port)
    assert main(["stop"]) == 0
    assert main(["serve"]) == 0
    assert port() == settings.port

    other = free_port(27000 + os.getpid() % 2000)
    config = tmp_path / "other.yaml"
    config.write_text(yaml.safe_dump({"deploy": {"port": other}}), encoding="utf-8")
    assert main(["rollback", "--config", str(config)]) == 0
    assert port() in ports(other)
    assert main(["rollback"]) == 0
    assert port() in ports(other)
