from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.image import imread
from optuna import create_study, create_trial
from optuna.distributions import FloatDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from demand.config import TrainingConfig, load_config
from demand.errors import ModelError
from demand.model.tuning.study import Predict, compare
from demand.reports.tuning import (
    search_figures,
    trials_table,
    verdict,
    write_plots,
    write_search,
)
from demand.workspace.workspace import read_json
from tests.model.tuning.made import ADS, BASE, Fits, settings, space

ABOUT = {"folds": 3, "data_md5": "abc", "trials_asked": 5}
BETTER = (0.1, 0.01)


def trial(
    dropout: float, behind_base: list[float], value: float | None = None, **attributes: str
) -> FrozenTrial:
    return create_trial(
        state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
        value=value,
        params={"training.dropout": dropout},
        distributions={"training.dropout": FloatDistribution(0, 0.8)},
        intermediate_values=dict(enumerate(behind_base, 1)),
        user_attrs=attributes,
    )


def study(*trials: FrozenTrial) -> Study:
    made = create_study()
    made.set_user_attr("interrupted", 2)
    made.add_trials(trials)
    return made


TRIALS = (
    trial(0.2, [0, 0, 0], 0.3),
    trial(0.7, [0.2]),
    trial(0.35, [-0.05, -0.2, -0.1], 0.2),
    trial(0.01, [], failure="training diverged"),
)
FOUND, ONLY_BASE = study(*TRIALS), study(TRIALS[0])


def test_the_best_config_is_one_that_training_takes(tmp_path: Path) -> None:
    write_search(tmp_path, FOUND, space(), search_figures(FOUND, space(), BETTER, ABOUT))
    config = load_config(tmp_path / "best.yaml", TrainingConfig)
    assert config.training.dropout == 0.35
    assert config == space().config({"training.dropout": 0.35})
    header = (tmp_path / "best.yaml").read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    for fact in ("trial 2 of 4", "0.20000", "0.30000", "md5 abc", "training.dropout: 0.35"):
        assert fact in header


def test_all_trials_are_in_the_table(tmp_path: Path) -> None:
    write_search(tmp_path, FOUND, space(), search_figures(FOUND, space(), None, ABOUT))
    table = pd.read_csv(tmp_path / "trials.csv")
    assert table["state"].tolist() == ["finished", "pruned", "finished", "failed"]
    assert table["trial"].tolist() == [0, 1, 2, 3]
    assert table["folds"].tolist() == [3, 1, 3, 0]
    assert table["rmse"].isna().tolist() == [False, True, False, True]
    assert table["behind_base"].tolist()[:3] == pytest.approx([0.0, 0.2, -0.1])
    assert table["training.dropout"].tolist() == [0.2, 0.7, 0.35, 0.01]
    assert table["failure"].tolist()[3] == "training diverged"


def test_the_figures_are_whole(tmp_path: Path) -> None:
    figures = search_figures(FOUND, space(), BETTER, ABOUT)
    write_search(tmp_path, FOUND, space(), figures)
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
        (FOUND, BETTER, "better than the base config: on fresh folds trial 2 gains"),
        (FOUND, (0.1, 0.2), "nothing is better than the base config by more than noise"),
        (FOUND, (-0.1, 0.0), "nothing is better than the base config by more than noise"),
        (FOUND, None, "was not measured yet"),
        (ONLY_BASE, None, "nothing is better than the base config"),
    ],
)
def test_the_verdict_is_plain(
    found: Study, compared: tuple[float, float] | None, said: str
) -> None:
    assert said in verdict(search_figures(found, space(), compared, ABOUT))


def test_a_failed_trial_reached_nothing() -> None:
    assert math.isnan(trials_table(FOUND, space())["behind_base"][3])


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (FOUND, ["optimization_history.png", "param_importances.png", "slice.png"]),
        (ONLY_BASE, ["optimization_history.png", "slice.png"]),
        (study(TRIALS[0], TRIALS[0]), ["optimization_history.png", "slice.png"]),
    ],
    ids=["many", "one", "equal"],
)
@pytest.mark.filterwarnings("error")
def test_a_search_is_plotted(found: Study, names: list[str], tmp_path: Path) -> None:
    write_plots(tmp_path, found)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(imread(path).std() > 0 for path in tmp_path.iterdir())


class TestTheComparison:
    BEST = {"training.dropout": 0.35}  # noqa: RUF012

    def test_is_made_on_other_folds_than_the_search(self) -> None:
        fits = Fits()
        compare(ADS, space(), settings(), self.BEST, fits)
        assert [config.training.dropout for config in fits.configs] == [0.2] * 3 + [0.35] * 3
        assert {config.seed for config in fits.configs} == {BASE.seed + 1}
        searched = Fits()
        compare(ADS, space(), settings(seed=6), self.BEST, searched)
        assert set(fits.held[0]["item_id"]) != set(searched.held[0]["item_id"])

    def test_finds_a_large_difference(self) -> None:
        gain, noise = compare(ADS, space(), settings(), self.BEST, Fits())
        assert gain > noise > 0

    def test_takes_no_difference_for_none(self) -> None:
        compared = compare(ADS, space(), settings(), {"training.dropout": 0.2}, Fits())
        assert compared == (0.0, 0.0)
        assert not search_figures(FOUND, space(), compared, ABOUT)["better_than_noise"]

    def test_says_where_one_cannot_be_trained_again(self) -> None:
        def fit(*_: object) -> Predict:
            raise ModelError("training diverged")

        with pytest.raises(ModelError, match="cannot compare base and best on fresh folds: tra"):
            compare(ADS, space(), settings(), self.BEST, fit)
