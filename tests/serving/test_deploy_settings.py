"""What a deployment keeps of how it was deployed, without a server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic_core import to_jsonable_python

from demand.config import DeploySettings
from demand.errors import ServingError, StateError
from demand.serving.deployment import Deployment, active, last_settings, stop
from demand.serving.processes import ServerProcess
from demand.workspace.workspace import Workspace, write_json

SETTINGS = DeploySettings(host="127.0.0.9", port=24321, startup_timeout_s=7.0, sample_ads=3)
SERVER = ServerProcess(2**22 + 1, 0.0, "127.0.0.9", 24322, "7", "log")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def record(workspace: Workspace, content: object) -> None:
    write_json(workspace.serving / "active.json", to_jsonable_python(content))


def test_where_nothing_was_deployed_there_are_none(workspace: Workspace) -> None:
    assert last_settings(workspace) is None


def test_a_deployment_is_read_as_it_was_recorded(workspace: Workspace) -> None:
    deployment = Deployment(SERVER, "2026-01-01", SETTINGS)
    record(workspace, asdict(deployment))
    assert active(workspace) == deployment
    assert last_settings(workspace) == SETTINGS


def test_a_record_of_before_tells_where_its_server_listens(workspace: Workspace) -> None:
    record(workspace, {"server": asdict(SERVER), "started_at": "2026-01-01"})
    assert active(workspace) == Deployment(SERVER, "2026-01-01")
    assert last_settings(workspace) == DeploySettings(host="127.0.0.9", port=24322)


@pytest.mark.parametrize("settings", [[], "x", {"port": "1"}, {"port": 0}, {"hosts": "a"}])
def test_settings_that_are_none_make_the_record_a_damaged_one(
    workspace: Workspace, settings: object
) -> None:
    whole = {"server": asdict(SERVER), "started_at": "x"}
    record(workspace, whole | {"settings": settings})
    with pytest.raises(ServingError, match="is damaged: run `demand serve`"):
        active(workspace)
    assert last_settings(workspace) is None


def test_settings_outlive_a_stop(workspace: Workspace) -> None:
    record(workspace, asdict(Deployment(SERVER, "2026-01-01", SETTINGS)))
    for _ in range(2):
        stop(workspace)
        assert active(workspace) is None
        assert last_settings(workspace) == SETTINGS


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"port": 70000}', b"\xff"])
def test_kept_settings_that_are_damaged_are_named_and_hinder_no_stop(
    workspace: Workspace, content: bytes
) -> None:
    kept = workspace.root / "deploy_settings.json"
    kept.write_bytes(content)
    with pytest.raises(StateError, match=f"{kept}.* is damaged: name others with --config"):
        last_settings(workspace)
    assert not stop(workspace)
