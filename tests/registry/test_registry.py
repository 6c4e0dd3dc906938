from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demand.errors import ModelError, StateError
from demand.registry.registry import MODEL, Registry
from demand.registry.tracking import mlflow_client, start_run
from demand.registry.versions import RegisteredVersion, champion_file, read_champion, told_champion
from demand.workspace.workspace import Workspace

CARD = """# Model card

| figure | value |

## What it is for, and what not

For telling sellers.

## Data

Ads.
"""
Register = Callable[[str], RegisteredVersion]


@pytest.fixture
def register(workspace: Workspace, tmp_path: Path) -> Register:
    run = start_run("training")

    def register(fingerprint: str) -> RegisteredVersion:
        model = run.client.create_logged_model(run.experiment_id, source_run_id=run.run_id)
        files = tmp_path / model.model_id
        (files / "data").mkdir(parents=True)
        (files / "MLmodel").write_text("flavors: {}", encoding="utf-8")
        (files / "data/model.json").write_text("{}", encoding="utf-8")
        (files / "card").mkdir()
        (files / "card/model_card.md").write_text(CARD, encoding="utf-8")
        run.client.log_model_artifacts(model.model_id, str(files))
        return Registry().register_challenger(
            model.model_id, data_md5="abc", fingerprint=fingerprint, metrics={"rmse": 0.2}
        )

    return register


def aliases(workspace: Workspace) -> dict[str, str]:
    found = mlflow_client(workspace).get_registered_model(MODEL).aliases
    return {alias: str(version) for alias, version in found.items()}


def test_without_a_model_there_is_no_champion(workspace: Workspace) -> None:
    registry = Registry()
    assert (registry.champion(), registry.previous(), registry.versions()) == (None, None, [])
    with pytest.raises(ModelError, match="no champion before this one"):
        registry.rollback()
    with pytest.raises(ModelError, match="no version 3 of the model; there is: none"):
        registry.promote("3", "why")


def test_a_registered_model_is_challenger_and_leads_back_to_its_data(
    workspace: Workspace, register: Register
) -> None:
    version = register("f1")
    assert aliases(workspace) == {"challenger": "1"}
    challenger = Registry().challenger()
    assert challenger == version
    assert (version.data_md5, version.fingerprint, version.metrics) == ("abc", "f1", {"rmse": 0.2})
    assert (version.source / "MLmodel").is_file()
    assert mlflow_client(workspace).get_run(version.run_id).info.run_name == "training"


def test_mlflows_page_shows_how_the_card_begins(workspace: Workspace, register: Register) -> None:
    register("f1")
    client = mlflow_client(workspace)
    assert client.get_registered_model(MODEL).description == "For telling sellers."
    version = str(client.get_model_version(MODEL, "1").description)
    assert version.startswith("# Model card")
    assert version.endswith("For telling sellers.")
    client.update_registered_model(MODEL, "what somebody wrote")
    register("f2")
    assert client.get_registered_model(MODEL).description == "what somebody wrote"


def test_promotion_moves_all_aliases(workspace: Workspace, register: Register) -> None:
    register("f1")
    Registry().promote("1", "first")
    assert aliases(workspace) == {"champion": "1"}
    register("f2")
    assert aliases(workspace) == {"champion": "1", "challenger": "2"}
    Registry().promote("2", "better")
    assert aliases(workspace) == {"champion": "2", "previous": "1"}


def test_rollback_goes_back_and_forth(workspace: Workspace, register: Register) -> None:
    for i in ("1", "2"):
        register(f"f{i}")
        Registry().promote(i, "better")
    assert Registry().rollback(reason="drift").version == "1"
    assert aliases(workspace) == {"champion": "1", "previous": "2"}
    assert Registry().rollback().version == "2"


def test_rollback_reaches_any_version(workspace: Workspace, register: Register) -> None:
    for i in ("1", "2", "3"):
        register(f"f{i}")
        Registry().promote(i, "better")
    Registry().rollback(to="1")
    assert aliases(workspace) == {"champion": "1", "previous": "3"}


def test_history_says_who_when_from_to_and_why(
    workspace: Workspace, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "maria")
    for i in ("1", "2"):
        register(f"f{i}")
        Registry().promote(i, f"reason {i}")
    monkeypatch.setenv("LOGNAME", "ivan")
    Registry().rollback(reason="drift")
    told = [(t.action, t.from_version, t.to_version, t.who, t.reason) for t in Registry().history()]
    assert told == [
        ("promote", None, "1", "maria", "reason 1"),
        ("promote", "1", "2", "maria", "reason 2"),
        ("rollback", "2", "1", "ivan", "drift"),
    ]
    tags = mlflow_client(workspace).get_registered_model(MODEL).tags
    assert sorted(tags) == [f"demand.change.{number:06}" for number in (1, 2, 3)]
    assert json.loads(tags["demand.change.000003"])["who"] == "ivan"


def test_promoting_the_champion_again_changes_nothing(
    workspace: Workspace, register: Register
) -> None:
    register("f1")
    Registry().promote("1", "first")
    Registry().promote("1", "again")
    assert len(Registry().history()) == 1


def test_a_twin_is_not_registered_again(workspace: Workspace, register: Register) -> None:
    register("f1")
    Registry().promote("1", "first")
    assert register("f1").version == "1"
    assert aliases(workspace) == {"champion": "1"}
    register("f2")
    Registry().promote("2", "better")
    assert register("f1").version == "1"
    assert aliases(workspace) == {"champion": "2", "previous": "1", "challenger": "1"}


def test_a_twin_whose_files_are_damaged_is_registered_again(
    workspace: Workspace, register: Register
) -> None:
    (register("f1").source / "MLmodel").write_text("damaged", encoding="utf-8")
    assert register("f1").version == "2"


def test_a_damaged_version_does_not_become_champion(
    workspace: Workspace, register: Register
) -> None:
    register("f1")
    Registry().promote("1", "first")
    (register("f2").source / "data/model.json").unlink()
    with pytest.raises(ModelError, match="version 2 cannot become champion"):
        Registry().promote("2", "better")
    assert aliases(workspace)["champion"] == "1"


def test_a_withdrawn_promotion_leaves_all_as_before(
    workspace: Workspace, register: Register
) -> None:
    for i in ("1", "2", "3"):
        register(f"f{i}")
        Registry().promote(i, "better")
    Registry().undo("3", "did not start")
    assert aliases(workspace) == {"champion": "2", "previous": "1"}
    Registry().undo("3", "is not champion")
    assert aliases(workspace) == {"champion": "2", "previous": "1"}


def test_a_withdrawn_first_promotion_leaves_no_champion(
    workspace: Workspace, register: Register
) -> None:
    register("f1")
    Registry().promote("1", "first")
    Registry().undo("1", "did not start")
    assert Registry().champion() is None
    assert [t.action for t in Registry().history()] == ["promote", "withdraw"]


class KilledError(BaseException):
    """Stands for ``kill -9``: no code of ours handles it."""


class DyingClient:
    """MLflow's client, killed before its n-th write."""

    def __init__(self, client: Any, writes: int) -> None:
        self._client, self._left = client, writes

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("set_", "delete_", "create_")):
            if self._left == 0:
                raise KilledError
            self._left -= 1
        return getattr(self._client, name)


def test_a_promotion_killed_anywhere_leaves_one_truth_and_is_completed(
    workspace: Workspace, register: Register
) -> None:
    for i in ("1", "2", "3"):
        register(f"f{i}")
        if i != "3":
            Registry().promote(i, "better")
    seen = set()
    for writes in range(6):
        with pytest.raises(KilledError):
            Registry(client=DyingClient(mlflow_client(workspace), writes)).promote("3", "better")
        champion, previous = Registry().champion(), Registry().previous()
        assert champion is not None
        assert previous is not None
        seen.add((champion.version, previous.version))
        Registry().rollback(to="2")  # completes first, then goes back to the start
        if champion.version == "3":
            assert [t.to_version for t in Registry().history()][-2:] == ["3", "2"]
            assert aliases(workspace) == {"champion": "2", "previous": "3"}
        mlflow_client(workspace).set_registered_model_alias(MODEL, "challenger", "3")
    assert seen == {("2", "1"), ("3", "2")}


def test_a_history_that_was_kept_in_a_file_goes_on(
    workspace: Workspace, register: Register
) -> None:
    register("f1")
    told = {
        "action": "promote",
        "from_version": None,
        "to_version": "1",
        "previous": None,
        "reason": "kept",
        "who": "maria",
        "at": "2026-11-01T00:00:00+00:00",
        "id": "a",
    }
    client, file = mlflow_client(workspace), workspace.root / "history.jsonl"
    client.set_registered_model_alias(MODEL, "champion", "1")
    file.write_text(json.dumps(told) + '\n{"action": "prom', encoding="utf-8")
    assert [(t.who, t.to_version) for t in Registry().history()] == [("maria", "1")]
    register("f2")
    Registry().promote("2", "better")
    assert [t.to_version for t in Registry().history()] == ["1", "2"]
    assert not file.exists()
    Registry().rollback()
    assert [t.to_version for t in Registry().history()] == ["1", "2", "1"]


def test_a_tag_that_is_no_change_spoils_no_other(workspace: Workspace, register: Register) -> None:
    register("f1")
    Registry().promote("1", "first")
    mlflow_client(workspace).set_registered_model_tag(MODEL, "demand.change.000002", '{"action":')
    register("f2")
    Registry().promote("2", "better")
    assert [t.to_version for t in Registry().history()] == ["1", "2"]


def test_what_the_api_reads_follows_an_alias_that_mlflow_moved(
    workspace: Workspace, register: Register
) -> None:
    for i in ("1", "2"):
        register(f"f{i}")
        Registry().promote(i, "better")
    assert told_champion(workspace) == Registry().champion()
    mlflow_client(workspace).set_registered_model_alias(MODEL, "champion", "1")
    told = told_champion(workspace)
    assert told is not None
    assert told.version == "2"
    assert Registry().champion() == told_champion(workspace) == Registry().version("1")
    # Who reads no more than the file hears of it, too.
    mlflow_client(workspace).set_registered_model_alias(MODEL, "champion", "2")
    until = time.monotonic() + 60
    while (now := read_champion(workspace)) is None or now.version != "2":
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.parametrize("spoiled", ["", "{", "[]", "{}", '{"champion": {"version": "1"}}'])
def test_a_damaged_file_for_the_api_is_mended(
    workspace: Workspace, register: Register, spoiled: str
) -> None:
    register("f1")
    Registry().promote("1", "first")
    champion_file(workspace).write_text(spoiled, encoding="utf-8")
    with pytest.raises(StateError, match=r"champion\.json"):
        told_champion(workspace)
    assert Registry().champion() == told_champion(workspace)


def test_installations_do_not_see_each_other(
    workspace: Workspace, register: Register, empty_installation: Workspace
) -> None:
    register("f1")
    assert Registry(empty_installation).versions() == []


def test_a_registry_that_fails_is_a_state_error(workspace: Workspace, register: Register) -> None:
    register("f1")
    registry = Registry()
    from mlflow.exceptions import MlflowException

    class Failing:
        def search_registered_models(self, *_: object) -> None:
            raise MlflowException("database is locked")

    with pytest.raises(StateError, match="database is locked"):
        Registry(client=Failing()).champion()
    assert registry.champion() is None
