from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from demand.config import GateSettings
from demand.evaluation.baselines import CategoryMeans, mean_baseline
from demand.evaluation.evaluate import Evaluation, evaluate
from demand.evaluation.metrics import bootstrap_rmse, rmse
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads

SETTINGS = GateSettings(bootstrap_samples=200)


@pytest.fixture(scope="module")
def ads() -> pd.DataFrame:
    return make_ads(600, seed=21)


@pytest.fixture(scope="module")
def predicted(ads: pd.DataFrame) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0.0, 0.1, len(ads))
    return (ads[TARGET].to_numpy() * 0.7 + noise).clip(0.0, 1.0)


@pytest.fixture(scope="module")
def baselines(ads: pd.DataFrame) -> dict[str, np.ndarray]:
    train = make_ads(600, seed=22)
    return {
        "mean": mean_baseline(train[TARGET], len(ads)),
        "category_means": CategoryMeans().fit(train).predict(ads),
    }


def evaluate_it(ads, predicted, baselines, champion=None, **more) -> Evaluation:
    return evaluate(
        ads,
        predicted,
        baselines=baselines,
        champion_predicted=champion,
        settings=SETTINGS,
        seed=5,
        **more,
    )


@pytest.fixture(scope="module")
def evaluation(ads, predicted, baselines) -> Evaluation:
    return evaluate_it(ads, predicted, baselines, baselines["mean"], noise_floor_rmse=0.01)


def test_metrics_are_those_of_the_rows(evaluation, ads, predicted, baselines) -> None:
    found = evaluation.metrics
    assert found["rmse"] == rmse(ads[TARGET], predicted)
    assert found["rmse_low"] <= found["rmse"] <= found["rmse_high"]
    assert found["bias"] == pytest.approx(np.mean(predicted - ads[TARGET]))
    assert found["threshold"] == SETTINGS.rmse_threshold
    assert found["baseline_rmse"] == rmse(ads[TARGET], baselines["mean"])
    assert found["baseline_category_means_rmse"] == rmse(ads[TARGET], baselines["category_means"])
    assert found["champion_rmse"] == found["baseline_rmse"]
    assert 0.0 < found["explained_share"] < 1.0


def test_all_metrics_are_plain_finite_numbers(evaluation) -> None:
    assert all(
        type(value) is float and math.isfinite(value) for value in evaluation.metrics.values()
    )


def test_the_champion_is_compared_on_the_same_rows_by_seller(
    evaluation, ads, predicted, baselines
) -> None:
    expected = bootstrap_rmse(
        ads[TARGET],
        predicted,
        baselines["mean"],
        samples=SETTINGS.bootstrap_samples,
        confidence=SETTINGS.confidence,
        seed=5,
        groups=ads["user_id"],
    )
    found = [evaluation.metrics[f"champion_difference{end}"] for end in ("", "_low", "_high")]
    assert found == list(expected)


def test_each_rival_has_a_row(evaluation) -> None:
    names = evaluation.compared["name"].tolist()
    assert names == ["baseline: mean", "baseline: category_means", "champion"]


def test_without_a_champion_nothing_is_said_of_one(ads, predicted, baselines) -> None:
    first = evaluate_it(ads, predicted, baselines)
    assert not any(name.startswith("champion") for name in first.metrics)
    assert first.decisions[-1].passed


def test_a_better_model_passes_all_gates(evaluation) -> None:
    assert [decision.passed for decision in evaluation.decisions] == [True, True, True]


def test_a_worse_model_is_refused_by_all_gates(ads, predicted, baselines) -> None:
    worse = evaluate_it(ads, 1.0 - predicted, baselines, predicted)
    assert [decision.passed for decision in worse.decisions] == [False, False, False]


def test_the_champion_itself_is_a_tie(ads, predicted, baselines) -> None:
    twin = evaluate_it(ads, predicted, baselines, predicted)
    assert not twin.decisions[-1].passed
    assert "tie" in twin.decisions[-1].reason


def test_same_seed_gives_the_same_figures(evaluation, ads, predicted, baselines) -> None:
    again = evaluate_it(ads, predicted, baselines, baselines["mean"], noise_floor_rmse=0.01)
    assert again.metrics == evaluation.metrics


def test_a_floor_above_the_mean_explains_nothing(ads, predicted, baselines) -> None:
    found = evaluate_it(ads, predicted, baselines, noise_floor_rmse=0.9).metrics
    assert found["noise_floor_rmse"] == 0.9
    assert "explained_share" not in found


def test_explained_share_is_0_at_the_mean_and_1_at_the_floor(ads, predicted, baselines) -> None:
    floor = evaluate_it(ads, predicted, baselines).metrics["rmse"]
    at_the_floor = evaluate_it(ads, predicted, baselines, noise_floor_rmse=floor).metrics
    assert at_the_floor["explained_share"] == 1.0
    at_the_mean = evaluate_it(ads, baselines["mean"], baselines, noise_floor_rmse=floor).metrics
    assert at_the_mean["explained_share"] == 0.0


def test_predictions_for_other_rows_are_refused(ads, predicted, baselines) -> None:
    with pytest.raises(ValueError, match="shape"):
        evaluate_it(ads, predicted[1:], baselines)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_predictions_that_are_not_finite_are_refused(ads, predicted, baselines, bad) -> None:
    broken = predicted.copy()
    broken[3] = bad
    found = evaluate_it(ads, broken, baselines, predicted)
    assert [decision.passed for decision in found.decisions] == [False, False, False]
