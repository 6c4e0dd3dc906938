from __future__ import annotations

import pytest

import run
from demand.workspace.workspace import PROJECT_ROOT

Captured = pytest.CaptureFixture[str]


def ended(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as raised:
        run.main(argv)
    assert isinstance(raised.value.code, int)
    return raised.value.code


def test_help_ends_with_examples(capfd: Captured) -> None:
    assert ended(["--help"]) == 0
    examples = capfd.readouterr().out.rpartition("examples:\n")[2]
    assert "python run.py --pipeline training" in examples


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--pipeline", "trainning"],
        ["--pipeline"],
        ["training"],
        ["--pipeline", "training", "--no-deplo"],
        ["--pipeline", "training", "--data"],
        ["--pipeline", "training", "--trials", "3"],
        ["--pipeline", "tuning", "--trials", "0"],
        ["--pipeline", "tuning", "--trials", "many"],
        ["--pipeline", "tuning", "--no-deploy"],
        ["--pipeline", "tuning", "--no-promote"],
        ["--pipeline", "batch-inference", "--data", "a.csv"],
        ["--pipeline", "batch-inference", "--output", "b.csv"],
        ["--pipeline", "batch-inference", "--data", "a.csv", "--output", "b.csv", "--rows", "3"],
        ["--pipeline", "production-evaluation"],
        ["--pipeline", "production-evaluation", "--data", "a.csv", "--rows", "0"],
        ["--pipeline", "production-evaluation", "--data", "a.csv", "--model", "1"],
        ["--pipeline", "training", "--output", "b.csv"],
        ["--pipeline", "training", "--url", "http://127.0.0.1/predict"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_64(argv: list[str], capfd: Captured) -> None:
    assert ended(argv) == 64
    assert "Usage: run.py" in capfd.readouterr().err


def test_an_option_of_another_pipeline_is_told(capfd: Captured) -> None:
    assert ended(["--pipeline", "tuning", "--no-deploy"]) == 64
    assert "--no-deploy belongs to --pipeline training" in capfd.readouterr().err


@pytest.mark.parametrize("pipeline", ["training", "tuning"])
def test_without_more_the_shipped_config_is_used(pipeline: str) -> None:
    arguments = run.parsed(["--pipeline", pipeline])
    assert arguments.config == PROJECT_ROOT / "configs" / f"{pipeline}.yaml"
    assert arguments.config.is_file()
    assert arguments.data is None
    assert not arguments.no_deploy


@pytest.mark.parametrize(
    "argv",
    [
        ["--pipeline", "batch-inference", "--data", "a.csv", "--output", "b.csv"],
        ["--pipeline", "production-evaluation", "--data", "a.csv"],
    ],
    ids=" ".join,
)
def test_a_pipeline_without_a_config_of_its_own_heeds_that_of_training(argv: list[str]) -> None:
    assert run.parsed(argv).config == PROJECT_ROOT / "configs" / "training.yaml"
    assert run.parsed([*argv, "--config", "my.yaml"]).config.name == "my.yaml"


def test_what_a_pipeline_needs_is_told(capfd: Captured) -> None:
    assert ended(["--pipeline", "batch-inference", "--data", "a.csv"]) == 64
    assert "--pipeline batch-inference needs --output" in capfd.readouterr().err


def test_without_more_the_config_says_how_many_trials() -> None:
    assert run.parsed(["--pipeline", "tuning"]).trials is None
    assert run.parsed(["--pipeline", "tuning", "--trials", "12"]).trials == 12
