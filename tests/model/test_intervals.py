from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from demand.features.encoding import hash_values
from demand.model.calibration import GROUP_ROWS_MIN, SHRINKAGE_ROWS, Intervals, fit_intervals

UNIT = st.floats(0, 1)
NAMES = ["Услуги", "Животные", "Транспорт", None]


def zero_inflated(
    rows: int, seed: int, spike: float = 0.8
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str | None]]:
    """Return ads like the real ones: mostly 0, some in between, some on a spike."""
    random = np.random.default_rng(seed)
    parents = random.integers(0, 3, rows)
    predicted = random.beta(1 + parents, 8)
    draw = random.random(rows)
    between = random.beta(2, 6, rows)
    actual = np.where(draw < predicted * 0.6, spike, np.where(draw < 0.35, between, 0.0))
    return predicted, actual, [NAMES[parent] for parent in parents]


def held(
    intervals: Intervals, predicted: NDArray[np.float64], actual: NDArray[np.float64], parents: list
) -> NDArray[np.bool_]:
    low, high = intervals.bounds(predicted, parents)
    return (low <= actual) & (actual <= high)


@given(
    st.data(),
    st.integers(GROUP_ROWS_MIN, 90),
    st.floats(0.5, 0.95),
)
def test_bounds_lie_in_the_unit_interval_around_the_prediction(
    data: st.DataObject, rows: int, coverage: float
) -> None:
    predicted = data.draw(arrays(np.float64, rows, elements=UNIT))
    actual = data.draw(arrays(np.float64, rows, elements=UNIT))
    parents = data.draw(st.lists(st.sampled_from(NAMES), min_size=rows, max_size=rows))
    intervals = fit_intervals(predicted, actual, parents, coverage=coverage)
    asked = data.draw(arrays(np.float64, 20, elements=UNIT))
    low, high = intervals.bounds(asked, data.draw(st.permutations(NAMES * 5)))
    assert (low >= 0).all()
    assert (low <= asked).all()
    assert (asked <= high).all()
    assert (high <= 1).all()


@given(
    st.data(),
    st.integers(GROUP_ROWS_MIN, 60),
    st.floats(0.5, 0.95),
)
def test_a_single_group_holds_its_share_of_the_calibration_rows(
    data: st.DataObject, rows: int, coverage: float
) -> None:
    predicted = data.draw(arrays(np.float64, rows, elements=UNIT))
    actual = data.draw(arrays(np.float64, rows, elements=st.sampled_from([0.0, 0.3, 0.8, 1.0])))
    parents: list[str | None] = ["Услуги"] * rows
    intervals = fit_intervals(predicted, actual, parents, coverage=coverage)
    wanted = min(rows, math.ceil((rows + 1) * coverage - 1e-9))
    assert held(intervals, predicted, actual, parents).sum() >= wanted


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.6, 0.8, 0.9]))
@settings(max_examples=25, deadline=None)
def test_new_zero_inflated_ads_are_covered(seed: int, coverage: float) -> None:
    intervals = fit_intervals(*zero_inflated(4000, seed), coverage=coverage)
    predicted, actual, parents = zero_inflated(4000, seed + 1)
    inside = held(intervals, predicted, actual, parents)
    # 0.03 are four standard errors of the difference of two shares of 4,000.
    assert inside.mean() > coverage - 0.03
    for name in set(parents):
        assert inside[[parent == name for parent in parents]].mean() > coverage - 0.06


def test_coverage_is_not_bought_with_width() -> None:
    predicted, actual, parents = zero_inflated(4000, 0)
    low, high = fit_intervals(predicted, actual, parents).bounds(predicted, parents)
    inside = (low <= actual) & (actual <= high)
    assert inside.mean() < 0.84
    assert (high - low).mean() < 0.5


def test_more_coverage_is_never_narrower() -> None:
    calibration = zero_inflated(1000, 0)
    predicted, _, parents = calibration
    inner_low, inner_high = fit_intervals(*calibration, coverage=0.6).bounds(predicted, parents)
    outer_low, outer_high = fit_intervals(*calibration, coverage=0.9).bounds(predicted, parents)
    assert (outer_low <= inner_low).all()
    assert (inner_high <= outer_high).all()


def test_a_high_prediction_that_comes_true_has_a_low_end_above_zero() -> None:
    predicted = np.full(100, 0.9)
    parents: list[str | None] = ["Услуги"] * 100
    low, _ = fit_intervals(predicted, np.full(100, 0.95), parents).bounds(predicted, parents)
    np.testing.assert_allclose(low, 0.9 - (0.05 / 0.81 + 4) * 0.01, rtol=1e-6)


def test_a_group_is_shrunk_towards_the_pooled_quantile() -> None:
    # Scores by hand: 0.1 / 0.25 in one group, 0.4 / 0.25 in the other.
    actual = np.repeat([0.6, 0.9], [100, 50])
    parents: list[str | None] = ["a"] * 100 + ["b"] * 50
    intervals = fit_intervals(np.full(150, 0.5), actual, parents)
    # Of the pooled weights the upper group has 0.43, more than a fifth: pooled = 1.6.
    assert intervals.pooled[0] == pytest.approx(1.6, rel=1e-6)
    first, second = intervals.bounds([0.5, 0.5], ["a", "b"])[1]
    own = 0.4 + (1.6 - 0.4) * SHRINKAGE_ROWS / (100 + SHRINKAGE_ROWS)
    assert first == pytest.approx(0.5 + own * 0.25, rel=1e-6)
    assert second == pytest.approx(0.5 + 1.6 * 0.25, rel=1e-6)


def test_an_outcome_on_the_border_of_a_spike_is_inside() -> None:
    rows = 500
    predicted = np.full(rows, 0.123)
    parents: list[str | None] = ["Транспорт"] * rows
    actual = np.full(rows, 0.86521)
    assert held(fit_intervals(predicted, actual, parents), predicted, actual, parents).all()


def test_an_unknown_parent_falls_back_to_the_pooled_quantile() -> None:
    intervals = fit_intervals(*zero_inflated(600, 0))
    _, high = intervals.bounds([0.2, 0.2], ["Антиквариат", None])
    np.testing.assert_allclose(high, 0.2 + intervals.pooled[0] * 0.04, rtol=1e-6)


def test_a_rare_parent_is_left_to_the_pooled_quantile() -> None:
    predicted, actual, parents = zero_inflated(600, 0)
    parents[: GROUP_ROWS_MIN - 1] = ["Для бизнеса"] * (GROUP_ROWS_MIN - 1)
    intervals = fit_intervals(predicted, actual, parents)
    assert len(intervals.keys) == 3
    rare, unknown = intervals.bounds([0.2, 0.2], ["Для бизнеса", "Антиквариат"])[1]
    assert rare == unknown


def test_only_rare_parents_leave_nothing_but_the_pooled_quantile() -> None:
    predicted, actual, _ = zero_inflated(30, 0)
    parents: list[str | None] = [str(row) for row in range(30)]
    intervals = fit_intervals(predicted, actual, parents)
    assert len(intervals.keys) == 0
    low, high = intervals.bounds(predicted, parents)
    assert (low <= high).all()


def test_names_and_their_hashes_agree() -> None:
    predicted, actual, parents = zero_inflated(600, 0)
    named = fit_intervals(predicted, actual, parents)
    hashed = fit_intervals(predicted, actual, hash_values(parents))
    np.testing.assert_array_equal(named.keys, hashed.keys)
    np.testing.assert_array_equal(named.quantiles, hashed.quantiles)
    np.testing.assert_array_equal(
        named.bounds(predicted, hash_values(parents)), named.bounds(predicted, parents)
    )


def test_the_order_of_rows_does_not_matter() -> None:
    predicted, actual, parents = zero_inflated(600, 0)
    order = np.random.default_rng(0).permutation(600)
    one = fit_intervals(predicted, actual, parents)
    other = fit_intervals(predicted[order], actual[order], [parents[row] for row in order])
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_allclose(one.quantiles, other.quantiles, rtol=1e-6)
    np.testing.assert_allclose(one.pooled, other.pooled, rtol=1e-6)


def test_what_is_stored_reads_back_the_same() -> None:
    predicted, actual, parents = zero_inflated(600, 0)
    intervals = fit_intervals(predicted, actual, parents)
    arrays = intervals.to_arrays()
    assert set(arrays) == {"intervals.keys", "intervals.quantiles", "intervals.pooled"}
    again = Intervals.from_arrays(arrays)
    assert again is not None
    np.testing.assert_array_equal(
        again.bounds(predicted, parents), intervals.bounds(predicted, parents)
    )


def test_the_table_is_small_and_sorted() -> None:
    intervals = fit_intervals(*zero_inflated(600, 0))
    assert intervals.keys.dtype == np.uint32
    assert (np.diff(intervals.keys.astype(np.int64)) > 0).all()
    assert intervals.quantiles.dtype == intervals.pooled.dtype == np.float32


def test_no_ads_have_no_bounds() -> None:
    low, high = fit_intervals(*zero_inflated(600, 0)).bounds([], [])
    assert low.shape == high.shape == (0,)


@pytest.mark.parametrize(("rows", "coverage"), [(1, 0.8), (GROUP_ROWS_MIN - 1, 0.8), (98, 0.99)])
def test_too_few_rows_are_an_error_that_says_how_many_are_needed(
    rows: int, coverage: float
) -> None:
    needed = 99 if coverage == 0.99 else GROUP_ROWS_MIN
    with pytest.raises(ValueError, match=rf"at least {needed} ads .* there are {rows}$"):
        fit_intervals(np.full(rows, 0.1), np.zeros(rows), [None] * rows, coverage=coverage)


def test_as_many_rows_as_the_coverage_needs_are_enough() -> None:
    intervals = fit_intervals(np.full(99, 0.1), np.zeros(99), ["a"] * 99, coverage=0.99)
    assert np.isfinite(intervals.quantiles).all()


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 80.0, float("nan")])
def test_a_coverage_outside_its_range_is_an_error(coverage: float) -> None:
    with pytest.raises(ValueError, match="a coverage lies between 0 and 1"):
        fit_intervals(*zero_inflated(100, 0), coverage=coverage)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan"), float("inf")])
def test_what_is_no_probability_is_named(wrong: float) -> None:
    predicted, actual, parents = zero_inflated(100, 0)
    spoiled = predicted.copy()
    spoiled[7] = wrong
    with pytest.raises(ValueError, match=rf"prediction 7 is {wrong:g}, which is not in \[0, 1\]"):
        fit_intervals(spoiled, actual, parents)
    with pytest.raises(ValueError, match="outcome 7"):
        fit_intervals(predicted, spoiled, parents)
    with pytest.raises(ValueError, match="prediction 7"):
        fit_intervals(predicted, actual, parents).bounds(spoiled, parents)


def test_shapes_that_differ_are_errors() -> None:
    predicted, actual, parents = zero_inflated(100, 0)
    with pytest.raises(ValueError, match="shape"):
        fit_intervals(predicted[1:], actual, parents)
    with pytest.raises(ValueError, match=r"parents of shape \(99,\) for answers of shape \(100,\)"):
        fit_intervals(predicted, actual, parents[1:])
    with pytest.raises(ValueError, match=r"shape \(1, 100\)"):
        fit_intervals(predicted, actual, parents).bounds(predicted[None], parents)


def test_hashes_of_another_type_are_an_error() -> None:
    predicted, actual, _ = zero_inflated(100, 0)
    with pytest.raises(ValueError, match="hashes of parents are uint64, not int64"):
        fit_intervals(predicted, actual, np.zeros(100, dtype=np.int64))
