from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

import run
from cli.pipelines import best_table, show_search, training_command, tune
from demand.errors import ConfigError
from tests.cli.heard import said

TRIALS = pd.DataFrame(
    {
        "trial": range(7),
        "state": ["finished", "pruned", *["finished"] * 4, "failed"],
        "rmse": [0.25, None, 0.24, 0.26, 0.23, 0.27, None],
        "behind_base": [0.0, 0.1, -0.01, 0.01, -0.02, 0.02, None],
        "folds": [5, 1, 5, 5, 5, 5, 0],
        "seconds": 1.0,
        "training.dropout": [0.2, 0.5, 0.1, 0.3, 0.15, 0.4, 0.0],
    }
)
METRICS: dict[str, Any] = {
    "best_rmse": 0.23,
    "base_rmse": 0.25,
    "best_trial": 4,
    "gain": 0.01,
    "noise": 0.002,
    "better_than_noise": True,
    "trials_finished": 5,
    "trials_pruned": 1,
    "trials_failed": 1,
    "folds": 5,
}


def test_the_table_has_the_base_and_the_best_finished_trials(out: Console) -> None:
    out.print(best_table(TRIALS))
    lines = said(out).splitlines()
    assert [cell.strip() for cell in lines[1].strip("┃").split("┃")] == [
        *("", "base", "trial 4", "trial 2", "trial 3")
    ]
    assert "0.25000" in lines[3]
    assert "training.dropout" in lines[4]


def test_a_find_is_shown_with_the_command_that_trains_with_it(out: Console) -> None:
    show_search(out, METRICS, TRIALS, Path("/reports/tuning"), Path("my ads.csv"))
    lines = said(out).splitlines()
    assert any(line.startswith("better than the base config") for line in lines)
    command = lines[lines.index("train with it:") + 1]
    arguments = run.parsed(shlex.split(command)[2:])
    assert arguments.config == Path("/reports/tuning/best.yaml")
    assert arguments.data == Path("my ads.csv")


def test_what_may_be_noise_is_said_to_be(out: Console) -> None:
    show_search(out, METRICS | {"better_than_noise": False}, TRIALS, Path("/reports"), None)
    assert "nothing is better than the base config by more than noise" in said(out)


def test_no_command_is_shown_where_the_base_is_best(out: Console) -> None:
    metrics = METRICS | {"best_trial": 0, "gain": None, "noise": None, "better_than_noise": False}
    show_search(out, metrics, TRIALS, Path("/reports"), None)
    assert "nothing is better than the base config\n" in said(out)
    assert "run.py" not in said(out)


def test_a_config_below_the_current_folder_is_shown_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = training_command(tmp_path / "reports" / "best.yaml", None)
    assert command == "python run.py --pipeline training --config reports/best.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: {training.dropout: {low: 0, high: 0.5}}", r"base: Field required"),
        ("base: nowhere.yaml\nspace: {training.dropout: {low: 0, high: 0.5}}", r"nowhere\.yaml"),
        (
            "base: base.yaml\nspace: {training.drop_out: {low: 0, high: 0.5}}",
            r"'training\.dropout'",
        ),
    ],
)
def test_a_wrong_config_is_an_error_before_anything_is_touched(
    text: str, message: str, tmp_path: Path, out: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DEMAND_REPORTS", str(tmp_path / "reports"))
    (tmp_path / "base.yaml").touch()
    config = tmp_path / "tuning.yaml"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        tune(argparse.Namespace(config=config), out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.yaml", "tuning.yaml"]
