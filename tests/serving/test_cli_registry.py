"""Commands that read the registry, which takes MLflow's tables."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from cli.main import main
from demand.registry.packaging import log_model
from demand.registry.registry import Registry
from demand.registry.tracking import start_run
from demand.schema.columns import TARGET
from demand.workspace.workspace import Workspace
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_predictor

Captured = pytest.CaptureFixture[str]
AD = {"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}


@pytest.fixture
def ad(tmp_path: Path) -> Path:
    path = tmp_path / "ad.json"
    path.write_text(json.dumps(AD), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["serve"], "there is no champion yet: run `python run.py --pipeline training`"),
        (["rollback"], "there is no champion before this one to roll back to"),
        (["rollback", "--to", "7"], "there is no version 7 of the model; there is: none"),
    ],
)
def test_without_a_champion_it_is_said_what_to_do(
    workspace: Workspace, argv: list[str], words: str, capfd: Captured
) -> None:
    assert main(argv) == 1
    assert capfd.readouterr().err.startswith(f"error: {words}")


def test_without_a_champion_nobody_answers(workspace: Workspace, ad: Path, capfd: Captured) -> None:
    assert main(["predict", "--ad", str(ad)]) == 1
    assert capfd.readouterr().err.startswith("error: there is no champion yet")


@pytest.mark.parametrize("argv", [["history"], ["history", "--json"]])
def test_an_empty_history_is_no_error(
    workspace: Workspace, argv: list[str], capfd: Captured
) -> None:
    assert main(argv) == 0
    assert capfd.readouterr().out in ("", "[]\n")


@pytest.fixture
def champion(workspace: Workspace) -> str:
    samples = make_ads(20, seed=3).drop(columns=TARGET)
    run = start_run("training")
    model_id = log_model(run, tiny_predictor(), samples)
    version = Registry().register_challenger(
        model_id, data_md5="abc", fingerprint="f", metrics={"rmse": 0.2}
    )
    return Registry().promote(version.version, "first").version


def test_the_champion_answers_one_ad_or_a_list(
    champion: str, tmp_path: Path, capfd: Captured
) -> None:
    ads = [AD, {"title": "шкаф", "category_name": "Мебель и интерьер"}]
    expected = [f"{answer:.6f}\n" for answer in tiny_predictor().predict(pd.DataFrame(ads))]
    for given, answers in ((AD, expected[:1]), (ads, expected)):
        path = tmp_path / "ads.json"
        path.write_text(json.dumps(given), encoding="utf-8")
        assert main(["predict", "--ad", str(path)]) == 0
        assert capfd.readouterr().out == "".join(answers)


def test_the_champion_explains_an_ad(champion: str, tmp_path: Path, capfd: Captured) -> None:
    path = tmp_path / "ad.json"
    path.write_text(json.dumps(AD), encoding="utf-8")
    assert main(["explain", "--ad", str(path)]) == 0
    told = capfd.readouterr().out
    assert "title" in told
    assert f"{tiny_predictor().predict_one(AD):.4f}" in told


def test_an_ad_that_is_none_is_not_explained(
    champion: str, tmp_path: Path, capfd: Captured
) -> None:
    path = tmp_path / "ad.json"
    path.write_text(json.dumps({"title": "шкаф"}), encoding="utf-8")
    assert main(["explain", "--ad", str(path)]) == 1
    assert "category_name is missing" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"title": "шкаф"}, "category_name is missing, but every ad needs it"),
        (AD | {"prise": 5}, "did you mean 'price'?"),
        ([AD, None], "must be an object, not null"),
        (5, "must be an object, not a number"),
    ],
)
def test_a_wrong_ad_is_told(
    champion: str, tmp_path: Path, given: object, words: str, capfd: Captured
) -> None:
    path = tmp_path / "ads.json"
    path.write_text(json.dumps(given), encoding="utf-8")
    assert main(["predict", "--ad", str(path)]) == 1
    assert words in capfd.readouterr().err


def test_the_history_says_who_changed_what_and_why(champion: str, capfd: Captured) -> None:
    assert main(["history"]) == 0
    assert "promote   – → 1" in capfd.readouterr().out
    assert main(["history", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)[0]["reason"] == "first"


def test_the_status_names_a_champion_that_does_not_serve(champion: str, capfd: Captured) -> None:
    assert main(["status", "--json"]) == 1
    status = json.loads(capfd.readouterr().out)
    assert (status["champion"], status["healthy"]) == ("1", False)
    assert "demand serve" in status["problem"]
