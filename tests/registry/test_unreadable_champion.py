"""A champion that others read, or that nobody can read any more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import main
from demand.errors import GateRefusal, ModelError
from demand.registry.packaging import log_model
from demand.registry.promotion import champion_answers, promote_challenger, withdraw_unreadable
from demand.registry.registry import Registry
from demand.registry.tracking import start_run, tracking_uri
from demand.registry.versions import RegisteredVersion
from demand.schema.columns import TARGET
from demand.serving.api.model_provider import FollowedChampion
from demand.serving.deployment import status
from demand.workspace.workspace import Workspace
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_predictor

SAMPLES = make_ads(20, seed=3).drop(columns=TARGET)
AD = {"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}
PREDICTOR = "data/predictor/predictor.json"
Captured = pytest.CaptureFixture[str]


def register(fingerprint: str) -> str:
    """Return the id of a logged model."""
    return log_model(start_run(fingerprint), tiny_predictor(), SAMPLES)


def promoted(fingerprint: str) -> RegisteredVersion:
    version = Registry().register_challenger(
        register(fingerprint), data_md5="abc", fingerprint=fingerprint, metrics={"rmse": 0.2}
    )
    return Registry().promote(version.version, "test")


@pytest.fixture
def champion(workspace: Workspace) -> RegisteredVersion:
    return promoted("f1")


@pytest.fixture
def damaged(champion: RegisteredVersion) -> RegisteredVersion:
    (champion.source / PREDICTOR).write_text("{}", encoding="utf-8")
    return champion


@pytest.fixture
def ad(tmp_path: Path) -> Path:
    path = tmp_path / "ad.json"
    path.write_text(json.dumps(AD), encoding="utf-8")
    return path


def name_of_champion() -> str | None:
    found = Registry().champion()
    return found.version if found else None


def train_another(compared: str | None, **metrics: float) -> None:
    promote_challenger(
        register("f2"),
        data_md5="abc",
        fingerprint="f2",
        metrics=metrics,
        tags={},
        compared=compared,
        margin=0.0005,
    )


def test_a_champion_that_mlflow_has_loaded_is_still_whole(
    workspace: Workspace, champion: RegisteredVersion, ad: Path, capfd: Captured
) -> None:
    code = "import mlflow; mlflow.pyfunc.load_model('models:/demand@champion')"
    uri = tracking_uri(workspace)
    told = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri}
    subprocess.run([sys.executable, "-c", code], env=os.environ | told, check=True)
    assert (champion.source / "registered_model_meta").is_file()

    for command in ("predict", "explain"):
        assert main([command, "--ad", str(ad)]) == 0, capfd.readouterr().err
    answers, _ = champion_answers(champion.version, SAMPLES)
    assert answers is not None
    followed = FollowedChampion(workspace)
    followed.look()
    assert followed.serving is not None
    assert followed.problem is None
    assert "damaged" not in str(status().problem)
    # It is compared with as before, and its twin is no other version.
    with pytest.raises(GateRefusal, match="worse"):
        train_another(
            "1",
            champion_difference=0.002,
            champion_difference_low=0.001,
            champion_difference_high=0.003,
        )
    assert promoted("f1").version == name_of_champion() == "1"


def test_what_cannot_be_compared_is_not_promoted(damaged: RegisteredVersion) -> None:
    with pytest.raises(GateRefusal, match=rf"{PREDICTOR} was changed.*restore.*demand rollback"):
        champion_answers(damaged.version, SAMPLES)
    with pytest.raises(GateRefusal, match="not compared with the champion, version 1"):
        train_another("1")
    assert name_of_champion() == "1"


def test_a_champion_of_a_format_that_cannot_be_read_is_not_passed_over(
    workspace: Workspace,
) -> None:
    run = start_run("old")
    model = run.client.create_logged_model(run.experiment_id, source_run_id=run.run_id)
    folder = workspace.root.parent / "old"
    tiny_predictor().save(folder / "data" / "predictor")
    (folder / PREDICTOR).write_text('{"format": 0}', encoding="utf-8")
    run.client.log_model_artifacts(model.model_id, str(folder))
    old = Registry().register_challenger(model.model_id, data_md5="", fingerprint="old", metrics={})
    Registry().promote(old.version, "test")
    with pytest.raises(GateRefusal, match=r"version 1, cannot be compared .*demand withdraw"):
        champion_answers(old.version, SAMPLES)
    assert main(["withdraw"]) == 0
    assert name_of_champion() is None


def test_the_status_tells_a_damaged_champion(damaged: RegisteredVersion, capfd: Captured) -> None:
    assert main(["status", "--json"]) == 1
    told = json.loads(capfd.readouterr().out)
    assert told["champion"] == "1"
    assert f"are missing or damaged ({PREDICTOR} was changed)" in told["problem"]
    assert "demand withdraw" in told["problem"]


def test_a_whole_copy_of_a_damaged_champion_mends_it(
    workspace: Workspace, champion: RegisteredVersion
) -> None:
    copy = workspace.serving / champion.version
    shutil.copytree(champion.source, copy)
    (champion.source / PREDICTOR).unlink()
    with pytest.raises(GateRefusal, match=f"restore them from {copy}, which is whole"):
        champion_answers(champion.version, SAMPLES)
    shutil.copytree(copy, champion.source, dirs_exist_ok=True)
    assert champion_answers(champion.version, SAMPLES)[0] is not None


def test_a_damaged_champion_without_one_before_can_be_withdrawn_and_replaced(
    damaged: RegisteredVersion, capfd: Captured
) -> None:
    assert main(["rollback"]) == 1
    assert main(["withdraw", "--reason", "no backup"]) == 0
    assert "version 1 is champion no more" in capfd.readouterr().out
    assert name_of_champion() is None
    last = Registry().history()[-1]
    assert (last.action, last.from_version, last.to_version) == ("withdraw", "1", None)
    assert last.reason.startswith("no backup: ")
    train_another(None)
    assert name_of_champion() == "2"
    assert Registry().previous() is None


def test_no_alias_is_left_of_a_champion_that_was_withdrawn(workspace: Workspace) -> None:
    promoted("f1")
    second = promoted("f2")
    (second.source / PREDICTOR).unlink()
    withdraw_unreadable("lost")
    found = Registry()
    assert (found.champion(), found.previous()) == (None, None)
    assert found.rollback(to="1").version == "1"


def test_a_champion_that_can_be_read_is_not_withdrawn(champion: RegisteredVersion) -> None:
    with pytest.raises(ModelError, match="version 1 is whole and stays champion"):
        withdraw_unreadable("by mistake")
    assert name_of_champion() == "1"


def test_without_a_champion_there_is_none_to_withdraw(
    workspace: Workspace, capfd: Captured
) -> None:
    assert main(["withdraw"]) == 1
    assert "there is no champion to withdraw" in capfd.readouterr().err
