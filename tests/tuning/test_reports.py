from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from demand.config import TrainingConfig, load_config
from demand.errors import ModelError
from demand.state import read_json
from demand.tuning.comparison import Comparison, compare
from demand.tuning.reports import search_figures, trials_table, verdict, write_search
from demand.tuning.search import Found, Trial
from tests.tuning.made import ADS, BASE, Answers, Fits, settings, space

ABOUT = {"folds": 3, "data_md5": "abc", "trials_asked": 5}


def trial(number: int, dropout: float, state: Any = "finished", *folds: float) -> Trial:
    return Trial(number, {"training.dropout": dropout}, state, folds, 1.5)


FOUND = Found(
    (
        trial(0, 0.2, "finished", 0.3, 0.4, 0.2),
        trial(1, 0.7, "pruned", 0.5),
        trial(2, 0.35, "finished", 0.2, 0.3, 0.1),
        Trial(3, {"training.dropout": 0.01}, "failed", (), 1.5, "training diverged"),
    ),
    interrupted=2,
)
ONLY_BASE = Found(FOUND.trials[:1])


def test_the_best_config_is_one_that_training_takes(tmp_path: Path) -> None:
    write_search(tmp_path, space(), FOUND, search_figures(FOUND, Comparison(0.1, 0.01), ABOUT))
    config = load_config(tmp_path / "best.yaml", TrainingConfig)
    assert config.training.dropout == 0.35
    assert config == space().config(FOUND.best.values)
    header = (tmp_path / "best.yaml").read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    for fact in ("trial 2 of 4", "0.20000", "0.30000", "md5 abc", "training.dropout: 0.35"):
        assert fact in header


def test_all_trials_are_in_the_table(tmp_path: Path) -> None:
    write_search(tmp_path, space(), FOUND, search_figures(FOUND, None, ABOUT))
    table = pd.read_csv(tmp_path / "trials.csv")
    assert table["state"].tolist() == ["finished", "pruned", "finished", "failed"]
    assert table["rmse"].isna().tolist() == [False, True, False, True]
    assert table["behind_base"].tolist()[:3] == pytest.approx([0.0, 0.2, -0.1])
    assert table["training.dropout"].tolist() == [0.2, 0.7, 0.35, 0.01]
    assert table["failure"].tolist()[3] == "training diverged"


def test_the_figures_are_whole(tmp_path: Path) -> None:
    figures = search_figures(FOUND, Comparison(0.1, 0.01), ABOUT)
    write_search(tmp_path, space(), FOUND, figures)
    assert read_json(tmp_path / "metrics.json") == figures
    assert figures["best_rmse"] == pytest.approx(0.2)
    assert figures["base_rmse"] == pytest.approx(0.3)
    counts = [figures[f"trials_{n}"] for n in ("finished", "pruned", "failed", "interrupted")]
    assert counts == [2, 1, 1, 2]
    assert figures["better_than_noise"]
    assert figures["data_md5"] == "abc"


@pytest.mark.parametrize(
    ("found", "compared", "said"),
    [
        (FOUND, Comparison(0.1, 0.01), "better than the base config: on fresh folds trial 2 gains"),
        (FOUND, Comparison(0.1, 0.2), "nothing is better than the base config by more than noise"),
        (FOUND, Comparison(-0.1, 0.0), "nothing is better than the base config by more than noise"),
        (FOUND, None, "was not measured yet"),
        (ONLY_BASE, None, "nothing is better than the base config"),
    ],
)
def test_the_verdict_is_plain(found: Found, compared: Comparison | None, said: str) -> None:
    assert said in verdict(search_figures(found, compared, ABOUT))


def test_a_failed_trial_reached_nothing() -> None:
    assert math.isnan(trials_table(FOUND)["behind_base"][3])


class TestTheComparison:
    def test_is_made_on_other_folds_than_the_search(self) -> None:
        fits = Fits()
        compared = compare(ADS, space(), settings(), FOUND, fits)
        assert compared is not None
        assert [config.training.dropout for config in fits.configs] == [0.2] * 3 + [0.35] * 3
        assert {config.seed for config in fits.configs} == {BASE.seed + 1}
        searched = Fits()
        compare(ADS, space(), settings(seed=6), FOUND, searched)
        assert set(fits.held[0]["item_id"]) != set(searched.held[0]["item_id"])

    def test_finds_a_large_difference(self) -> None:
        compared = compare(ADS, space(), settings(), FOUND, Fits())
        assert compared is not None
        assert compared.better
        assert compared.gain > 0

    def test_takes_no_difference_for_none(self) -> None:
        equal = Found((trial(0, 0.2, "finished", 0.3), trial(1, 0.2, "finished", 0.2)))
        compared = compare(ADS, space(), settings(), equal, Fits())
        assert compared == Comparison(0.0, 0.0)
        assert not compared.better

    def test_says_where_one_cannot_be_trained_again(self) -> None:
        def fit(*_: object) -> Answers:
            raise ModelError("training diverged")

        with pytest.raises(ModelError, match="cannot compare base and best on fresh folds: tra"):
            compare(ADS, space(), settings(), FOUND, fit)

    def test_is_not_made_where_the_base_is_best(self) -> None:
        assert compare(ADS, space(), settings(), ONLY_BASE, Fits()) is None
