from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from demand.evaluation.metrics import (
    CALIBRATION_BINS,
    Interval,
    bootstrap_rmse,
    calibration_table,
    expected_calibration_error,
    quantile_bins,
    regression_metrics,
    rmse,
)

probabilities = st.floats(0.0, 1.0, width=32)


@st.composite
def truth_and_answers(draw: st.DrawFn, answers: int = 1) -> list[np.ndarray]:
    rows = draw(st.integers(1, 60))
    return [draw(arrays(np.float64, rows, elements=probabilities)) for _ in range(answers + 1)]


def test_metrics_of_known_errors() -> None:
    found = regression_metrics([0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5])
    assert found == pytest.approx({"rmse": math.sqrt(0.125), "mse": 0.125, "mae": 0.25})


@pytest.mark.parametrize("measure", [regression_metrics, bootstrap_rmse, calibration_table])
def test_no_rows_are_refused(measure) -> None:
    with pytest.raises(ValueError, match="no rows"):
        measure([], [])


def test_shapes_that_differ_are_refused_and_named() -> None:
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        regression_metrics([0.0, 1.0], [0.0, 1.0, 0.5])


def test_a_column_is_no_row_of_predictions() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        regression_metrics([[0.0], [1.0]], [[0.0], [1.0]])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_predictions_that_are_not_finite_are_never_dropped(bad: float) -> None:
    found = regression_metrics([0.0, 1.0], [0.0, bad])
    assert not any(math.isfinite(value) for value in found.values())


@settings(deadline=None)
@given(truth_and_answers(), st.floats(0.01, 100.0))
def test_rmse_scales_with_its_unit(pair: list[np.ndarray], scale: float) -> None:
    actual, predicted = pair
    assert rmse(actual * scale, predicted * scale) == pytest.approx(scale * rmse(actual, predicted))


@settings(deadline=None)
@given(truth_and_answers())
def test_mae_is_at_most_rmse_and_mse_is_its_square(pair: list[np.ndarray]) -> None:
    found = regression_metrics(*pair)
    assert found["mae"] <= found["rmse"] + 1e-12
    assert found["mse"] == pytest.approx(found["rmse"] ** 2)


@settings(deadline=None)
@given(truth_and_answers(), st.integers(0, 5))
def test_bootstrap_interval_contains_the_estimate(pair: list[np.ndarray], seed: int) -> None:
    interval = bootstrap_rmse(*pair, samples=50, seed=seed)
    assert interval.low <= interval.estimate <= interval.high
    assert interval.estimate == rmse(*pair)


@settings(deadline=None)
@given(truth_and_answers(answers=2))
def test_paired_bootstrap_changes_its_sign_with_its_order(three: list[np.ndarray]) -> None:
    actual, first, second = three
    forth = bootstrap_rmse(actual, first, second, samples=50)
    back = bootstrap_rmse(actual, second, first, samples=50)
    assert forth.estimate == -back.estimate
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=1e-12)


@settings(deadline=None)
@given(truth_and_answers())
def test_a_model_differs_from_itself_by_exactly_0(pair: list[np.ndarray]) -> None:
    actual, predicted = pair
    assert bootstrap_rmse(actual, predicted, predicted, samples=50) == Interval(0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def two_models() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    actual = random.random(2000)
    hard = random.normal(0.0, 0.2, 2000)
    return actual, actual + hard + random.normal(0, 0.02, 2000), actual + hard * 1.02


def test_same_seed_gives_the_same_interval(two_models) -> None:
    assert bootstrap_rmse(*two_models, seed=7) == bootstrap_rmse(*two_models, seed=7)


def test_pairing_makes_the_difference_sharper_than_each_rmse(two_models) -> None:
    actual, first, second = two_models
    paired = bootstrap_rmse(actual, first, second)
    alone = bootstrap_rmse(actual, first)
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_bootstrap_interval_has_the_width_that_theory_gives() -> None:
    error = np.random.default_rng(0).normal(0.0, 1.0, 5000)
    interval = bootstrap_rmse(np.zeros(5000), error, samples=2000, confidence=0.95)
    # The standard error of the RMSE of normal errors is sigma / sqrt(2 n).
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / math.sqrt(10_000), rel=0.1)


def test_sellers_with_like_ads_widen_the_interval() -> None:
    random = np.random.default_rng(1)
    sellers = np.repeat(np.arange(100), 20)
    error = np.repeat(random.normal(0.0, 1.0, 100), 20)
    zeros = np.zeros(2000)
    by_row = bootstrap_rmse(zeros, error)
    by_seller = bootstrap_rmse(zeros, error, groups=sellers)
    assert by_seller.high - by_seller.low > 3 * (by_row.high - by_row.low)


def test_missing_sellers_each_stand_for_themselves(two_models) -> None:
    actual, first, _ = two_models
    nobody = pd.Series([None] * len(actual), dtype=object)
    assert bootstrap_rmse(actual, first, groups=nobody) == bootstrap_rmse(actual, first)


def test_sellers_that_do_not_match_the_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        bootstrap_rmse([0.0, 1.0], [0.0, 1.0], groups=["a"])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_interval_of_predictions_that_are_not_finite_has_no_bounds(bad: float) -> None:
    interval = bootstrap_rmse([0.0, 1.0], [0.0, bad], [0.0, 1.0])
    assert not math.isfinite(interval.estimate)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_bootstrap_of_20_000_ads_takes_seconds() -> None:
    random = np.random.default_rng(0)
    start = time.perf_counter()
    bootstrap_rmse(random.random(20_000), random.random(20_000), random.random(20_000))
    assert time.perf_counter() - start < 10.0


@settings(deadline=None)
@given(truth_and_answers())
def test_calibration_bins_hold_every_row_once(pair: list[np.ndarray]) -> None:
    actual, predicted = pair
    table = calibration_table(actual, predicted)
    assert table["rows"].sum() == len(actual)
    assert len(table) <= CALIBRATION_BINS
    assert table["bin"].tolist() == list(range(1, len(table) + 1))
    assert table["predicted_mean"].is_monotonic_increasing
    assert np.average(table["actual_mean"], weights=table["rows"]) == pytest.approx(actual.mean())


def test_calibration_bins_have_equal_counts() -> None:
    predicted = np.random.default_rng(0).permutation(np.linspace(0, 1, 100))
    assert calibration_table(predicted, predicted)["rows"].tolist() == [10] * 10


def test_equal_predictions_share_a_bin() -> None:
    table = calibration_table([0.0, 1.0, 0.0, 1.0], [0.5] * 4)
    assert table.to_dict("records") == [
        {"bin": 1, "predicted_mean": 0.5, "actual_mean": 0.5, "rows": 4}
    ]


def test_zeros_in_the_majority_leave_the_other_predictions_apart() -> None:
    assert quantile_bins(np.array([0.0] * 8 + [0.5, 0.9]), 5).tolist() == [0] * 8 + [1, 1]


def test_predictions_that_are_not_finite_are_in_no_bin() -> None:
    table = calibration_table([0.0, 1.0, 1.0], [math.nan, 0.4, math.inf])
    assert table["rows"].tolist() == [1]


def test_calibration_error_of_known_bins() -> None:
    actual = [0.0, 0.0, 1.0, 0.0]
    assert expected_calibration_error(actual, [0.1, 0.1, 0.9, 0.9]) == pytest.approx(0.25)


def test_calibration_error_of_the_truth_is_0() -> None:
    truth = np.random.default_rng(0).random(50)
    assert expected_calibration_error(truth, truth) == pytest.approx(0.0)


def test_calibration_error_without_a_finite_prediction_is_nan() -> None:
    assert math.isnan(expected_calibration_error([0.0, 1.0], [math.nan, math.nan]))
