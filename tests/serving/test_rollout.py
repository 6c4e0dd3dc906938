"""Deployments that fail before a server starts; tests/e2e/test_server.py has the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from demand.config import DeploySettings
from demand.errors import ModelError, ServingError
from demand.serving.registry import Registry
from demand.serving.rollout import roll_back, roll_out
from demand.serving.server import active
from demand.serving.tracking import start_run
from demand.serving.versions import RegisteredVersion
from demand.state import Home

Promote = Callable[[], RegisteredVersion]


@pytest.fixture
def promote(place: Home, tmp_path: Path) -> Promote:
    run = start_run("training")

    def promote() -> RegisteredVersion:
        model = run.client.create_logged_model(run.experiment_id, source_run_id=run.run_id)
        files = tmp_path / model.model_id
        files.mkdir()
        (files / "MLmodel").write_text("flavors: {}", encoding="utf-8")
        run.client.log_model_artifacts(model.model_id, str(files))
        version = Registry().register_challenger(
            model.model_id, data_md5="abc", fingerprint=model.model_id, metrics={}
        )
        return Registry().promote(version.version, "better")

    return promote


def champion() -> str | None:
    found = Registry().champion()
    return found.version if found else None


def fail_to_deploy(version: RegisteredVersion) -> None:
    shutil.rmtree(version.source)
    with pytest.raises(ModelError):
        roll_out(version.version, DeploySettings())
    assert active() is None


def test_a_promotion_is_undone_if_its_deployment_fails(promote: Promote) -> None:
    promote()
    fail_to_deploy(promote())
    assert champion() == "1"
    undone = Registry().history()[-1]
    assert (undone.action, undone.from_version, undone.to_version) == ("withdraw", "2", "1")
    assert "its deployment failed" in undone.reason


def test_without_a_champion_before_there_is_none_after(promote: Promote) -> None:
    fail_to_deploy(promote())
    assert champion() is None


def test_a_champion_that_has_served_stays_one(
    promote: Promote,
) -> None:
    promote()
    second = promote()
    Registry().mark_served(second.version)
    fail_to_deploy(second)
    assert champion() == "2"
    assert [change.action for change in Registry().history()] == ["promote", "promote"]


def test_a_version_that_there_is_not_changes_nothing(promote: Promote) -> None:
    promote()
    with pytest.raises(ModelError, match="there is no version 7"):
        roll_out("7", DeploySettings())
    assert champion() == "1"


def test_a_rollback_that_cannot_serve_is_undone(promote: Promote) -> None:
    first, second = promote(), promote()
    with pytest.raises(ServingError):
        roll_back(first.version, "complaints", DeploySettings(startup_timeout_s=30.0))
    assert champion() == second.version
