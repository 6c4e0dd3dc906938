"""Deployments that fail before a server starts; tests/e2e/test_server.py has the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from demand.config import DeploySettings
from demand.errors import ModelError, ServingError
from demand.registry.registry import Registry
from demand.registry.tracking import start_run
from demand.registry.versions import RegisteredVersion
from demand.serving.deployment import active, roll_back, roll_out
from demand.workspace.workspace import Workspace

Promote = Callable[[], RegisteredVersion]


@pytest.fixture
def promote(workspace: Workspace, tmp_path: Path) -> Promote:
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


# Of another machine, so that nobody can listen there.
NOWHERE = DeploySettings(host="192.0.2.1")


def actions() -> list[tuple[str, str]]:
    return [(change.action, str(change.to_version)) for change in Registry().history()]


def test_a_rollback_to_the_champion_itself_has_nothing_to_undo(promote: Promote) -> None:
    promote()
    second = promote()
    with pytest.raises(ServingError, match=r"cannot listen on 192\.0\.2\.1"):
        roll_back(second.version, "by mistake", NOWHERE)
    assert champion() == second.version
    assert actions() == [("promote", "1"), ("promote", "2")]


def test_ctrl_c_in_a_rollback_to_the_champion_itself_undoes_nothing(
    promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote()
    second = promote()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("demand.serving.deployment.start_server", interrupted)
    with pytest.raises(KeyboardInterrupt):
        roll_back(second.version, "by mistake", DeploySettings())
    assert champion() == second.version
    with pytest.raises(KeyboardInterrupt):
        roll_back("1", "on purpose", DeploySettings())
    assert champion() == second.version
    assert actions()[2:] == [("rollback", "1"), ("withdraw", "2")]


def test_a_rollback_that_never_began_undoes_nothing(promote: Promote) -> None:
    promote()
    promote()
    for wrong in ("7", "x"):
        with pytest.raises(ModelError, match="there is no version"):
            roll_back(wrong, "complaints", NOWHERE)
    assert actions() == [("promote", "1"), ("promote", "2")]


def test_a_promotion_of_an_earlier_run_is_not_undone(promote: Promote) -> None:
    promote()
    second = promote()
    with pytest.raises(ServingError):
        roll_out(second.version, NOWHERE, promoted=False)
    assert champion() == second.version


def test_what_is_undone_comes_back_though_its_files_are_damaged(promote: Promote) -> None:
    first, second = promote(), promote()
    (first.source / "MLmodel").write_text("damaged", encoding="utf-8")
    with pytest.raises(ServingError, match="cannot listen"):
        roll_out(second.version, NOWHERE)
    assert champion() == first.version


def test_only_the_rollback_of_that_id_is_undone(promote: Promote) -> None:
    promote()
    promote()
    registry = Registry()
    registry.rollback("1", change_id="a")
    registry.undo("b", "another's")
    assert champion() == "1"
    promote()
    registry.undo("a", "overtaken")
    assert champion() == "3"
    registry.rollback("1", change_id="c")
    registry.undo("c", "its own")
    assert champion() == "3"
