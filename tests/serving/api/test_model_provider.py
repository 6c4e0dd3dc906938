"""The API's model follows the alias of a real registry."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from demand.errors import ModelError, StateError
from demand.registry.model_files import CARD_FILE, NO_FACTS
from demand.registry.packaging import log_model, save_model
from demand.registry.registry import Registry
from demand.registry.tracking import tracked_run
from demand.registry.versions import read_champion, told_previous
from demand.schema.records import typed_records
from demand.serving.api.model_provider import FixedModel, FollowedChampion
from demand.workspace.workspace import Workspace
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_predictor


def register(workspace: Workspace, number: int) -> str:
    """Register a model of its own, and make it champion."""
    with tracked_run("training", tags={}) as run:
        model_id = log_model(run, tiny_predictor(), make_ads(4), market={"ads": number})
    registry = Registry(workspace)
    registry.register_challenger(
        model_id, data_md5=f"data {number}", fingerprint=f"{number}", metrics={"rmse": 0.2}, tags={}
    )
    return registry.promote(str(number), "test").version


def test_before_the_first_promotion_there_is_none(workspace: Workspace) -> None:
    assert read_champion(workspace) is None
    followed = FollowedChampion(workspace)
    followed.look()
    assert followed.serving is None
    assert "run.py --pipeline training" in str(followed.problem)


def test_where_nothing_was_ever_made_there_is_none(tmp_path: Path) -> None:
    assert read_champion(Workspace(tmp_path)) is None


def test_it_reads_what_the_registry_says(workspace: Workspace) -> None:
    register(workspace, 1)
    found, expected = read_champion(workspace), Registry(workspace).champion()
    assert found is not None
    assert found == expected


def test_what_is_told_is_that_of_the_champion(workspace: Workspace) -> None:
    followed = FollowedChampion(workspace)
    for number in (1, 2):
        register(workspace, number)
        followed.look()
        assert followed.serving is not None
        body = followed.serving.facts.market.body
        assert body is not None
        assert json.loads(body) == {"ads": number}
        assert followed.serving.facts.card == NO_FACTS.card


def test_a_change_is_followed_within_two_seconds(workspace: Workspace) -> None:
    register(workspace, 1)
    followed = FollowedChampion(workspace)
    followed.start()
    assert followed.serving is not None
    assert followed.serving.version == "1"
    register(workspace, 2)
    deadline = time.monotonic() + 2.0
    while followed.serving.version != "2":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert followed.problem is None


def test_a_damaged_champion_is_refused_and_the_one_before_goes_on(workspace: Workspace) -> None:
    register(workspace, 1)
    followed = FollowedChampion(workspace)
    followed.look()
    register(workspace, 2)
    champion = Registry(workspace).champion()
    assert champion is not None
    shutil.rmtree(champion.source / "data")
    followed.look()
    assert followed.serving is not None
    assert followed.serving.version == "1"
    assert "champion 2 is refused" in str(followed.problem)
    Registry(workspace).rollback(None, "it is damaged")
    followed.look()
    assert followed.problem is None


def test_the_champion_before_is_the_shadow(workspace: Workspace) -> None:
    followed = FollowedChampion(workspace)
    shadows = []
    for number in (1, 2, 3):
        register(workspace, number)
        followed.look_back()
        shadow = followed.shadow()
        shadows.append(shadow and shadow.version)
    assert shadows == [None, "1", "2"]
    Registry(workspace).rollback(None, "it was worse")
    followed.look_back()
    shadow = followed.shadow()
    assert shadow is not None
    typed = typed_records([{"title": "стол", "category_name": "Мебель"}])
    assert 0.0 <= shadow.answer(typed)[0] <= 1.0


def test_a_damaged_shadow_is_none_and_told_once(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    register(workspace, 1)
    register(workspace, 2)
    before = told_previous(workspace)
    assert before is not None
    shutil.rmtree(before.source / "data")
    followed = FollowedChampion(workspace)
    for _ in range(3):
        followed.look_back()
    assert followed.shadow() is None
    assert sum("the champion before is no shadow" in line for line in caplog.messages) == 1


def test_while_the_registry_is_locked_the_champion_goes_on(workspace: Workspace) -> None:
    register(workspace, 1)
    followed = FollowedChampion(workspace)
    with sqlite3.connect(workspace.mlflow_database, isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        followed.look()
        lock.execute("ROLLBACK")
    assert followed.serving is not None
    assert followed.problem is None


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("nothing of the kind " * 100)
    with pytest.raises(StateError, match=str(path)):
        read_champion(Workspace(tmp_path))


def test_a_model_from_a_folder_is_whole_or_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        FixedModel(tmp_path, "1")
    tiny_predictor().save(tmp_path / "model")
    assert FixedModel(tmp_path / "model", "1").serving is not None


def test_a_model_from_a_folder_tells_what_lies_beside_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "model"
    save_model(tiny_predictor(), folder, make_ads(4), market={"ads": 4})
    (folder / CARD_FILE).parent.mkdir()
    (folder / CARD_FILE).write_text('{"format": ')
    serving = FixedModel(folder, "1").serving
    assert serving is not None
    assert serving.facts.market.body == b'{"ads":4}'
    assert serving.facts.card.body is None
    assert "card.json is damaged" in caplog.text


def test_a_bare_predictor_has_nothing_to_tell(tmp_path: Path) -> None:
    tiny_predictor().save(tmp_path / "model")
    (tmp_path / "model" / "market.json").write_text("{}")
    serving = FixedModel(tmp_path / "model", "1").serving
    assert serving is not None
    assert serving.facts == NO_FACTS
