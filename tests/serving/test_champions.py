"""The API's model follows the alias of a real registry."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from demand.errors import ModelError, StateError
from demand.serving.alias import read_champion
from demand.serving.api.champions import FixedModel, FollowedChampion
from demand.serving.facts import CARD_FILE, NO_FACTS
from demand.serving.mlflow_model import log_model, save_model
from demand.serving.registry import Registry
from demand.serving.tracking import tracked_run
from demand.state import Home
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_predictor


def register(place: Home, number: int) -> str:
    """Register a model of its own, and make it champion."""
    with tracked_run("training", tags={}) as run:
        model_id = log_model(run, tiny_predictor(), make_ads(4), market={"ads": number})
    registry = Registry(place)
    registry.register_challenger(
        model_id, data_md5=f"data {number}", fingerprint=f"{number}", metrics={"rmse": 0.2}, tags={}
    )
    return registry.promote(str(number), "test").version


def test_before_the_first_promotion_there_is_none(place: Home) -> None:
    assert read_champion(place.mlflow_database) is None
    followed = FollowedChampion(place)
    followed.look()
    assert followed.serving is None
    assert "run.py --pipeline training" in str(followed.problem)


def test_where_nothing_was_ever_made_there_is_none(tmp_path: Path) -> None:
    assert read_champion(tmp_path / "mlflow.db") is None


def test_it_reads_what_the_registry_says(place: Home) -> None:
    register(place, 1)
    found, expected = read_champion(place.mlflow_database), Registry(place).champion()
    assert found is not None
    assert expected is not None
    assert found.version == expected.version
    assert found.source == expected.source
    assert found.files_sha256 == expected.files_sha256
    assert found.metrics == expected.metrics


def test_what_is_told_is_that_of_the_champion(place: Home) -> None:
    followed = FollowedChampion(place)
    for number in (1, 2):
        register(place, number)
        followed.look()
        assert followed.serving is not None
        body = followed.serving.facts.market.body
        assert body is not None
        assert json.loads(body) == {"ads": number}
        assert followed.serving.facts.card == NO_FACTS.card


def test_a_change_is_followed_within_two_seconds(place: Home) -> None:
    register(place, 1)
    followed = FollowedChampion(place)
    followed.start()
    assert followed.serving is not None
    assert followed.serving.version == "1"
    register(place, 2)
    deadline = time.monotonic() + 2.0
    while followed.serving.version != "2":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert followed.problem is None


def test_a_damaged_champion_is_refused_and_the_one_before_goes_on(place: Home) -> None:
    register(place, 1)
    followed = FollowedChampion(place)
    followed.look()
    register(place, 2)
    champion = Registry(place).champion()
    assert champion is not None
    shutil.rmtree(champion.source / "data")
    followed.look()
    assert followed.serving is not None
    assert followed.serving.version == "1"
    assert "champion 2 is refused" in str(followed.problem)
    Registry(place).rollback(None, "it is damaged")
    followed.look()
    assert followed.problem is None


def test_while_the_registry_is_locked_the_champion_goes_on(place: Home) -> None:
    register(place, 1)
    followed = FollowedChampion(place)
    followed.look()
    with sqlite3.connect(place.mlflow_database, isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        followed.look()
        lock.execute("ROLLBACK")
    assert followed.serving is not None
    assert "cannot read the registry" in str(followed.problem)
    followed.look()
    assert followed.problem is None


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("nothing of the kind " * 100)
    with pytest.raises(StateError, match=str(path)):
        read_champion(path)


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
