from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand.evaluation.evaluate import TIE_RMSE, champion_gate, rmse_gate
from demand.evaluation.metrics import Interval

positive = st.floats(1e-6, 10.0)


@pytest.mark.parametrize(
    ("rmse", "passes"),
    [
        (0.2499999, True),
        (math.nextafter(0.25, 0.0), True),
        (0.0, True),
        (0.25, False),
        (math.nextafter(0.25, 1.0), False),
        (0.3, False),
        (math.nan, False),
        (math.inf, False),
        (-math.inf, False),
        (-0.1, False),
    ],
)
def test_rmse_gate_at_a_quarter(rmse: float, passes: bool) -> None:
    assert rmse_gate(rmse, 0.25).passed is passes


@settings(deadline=None)
@given(positive)
def test_the_threshold_itself_never_passes(threshold: float) -> None:
    assert not rmse_gate(threshold, threshold).passed


@settings(deadline=None)
@given(positive, positive)
def test_rmse_gate_passes_only_what_is_strictly_below(rmse: float, threshold: float) -> None:
    assert rmse_gate(rmse, threshold).passed is (rmse < threshold)


@settings(deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), positive)
def test_a_lower_rmse_never_does_worse(one: float, two: float, threshold: float) -> None:
    better, worse = sorted([one, two])
    assert rmse_gate(better, threshold).passed >= rmse_gate(worse, threshold).passed


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_a_threshold_that_is_not_finite_refuses_all(threshold: float) -> None:
    assert not rmse_gate(0.1, threshold).passed


def test_the_reason_names_what_was_observed_and_demanded() -> None:
    reason = rmse_gate(0.2512, 0.25).reason
    assert "0.2512" in reason
    assert "0.25" in reason
    assert "\n" not in reason


def test_the_reason_never_calls_a_number_below_itself() -> None:
    assert "0.2499999999 is below 0.25" in rmse_gate(0.2499999999, 0.25).reason


# The table in the docstring of champion_gate, row by row, with a margin of 0.001.
@pytest.mark.parametrize(
    ("difference", "passes", "word"),
    [
        pytest.param(None, True, "no champion", id="no champion"),
        pytest.param(Interval(math.nan, math.nan, math.nan), False, "cannot be", id="nan"),
        pytest.param(Interval(-0.1, math.nan, math.nan), False, "cannot be", id="nan bounds"),
        pytest.param(Interval(-math.inf, -math.inf, 0.0), False, "cannot be", id="infinite"),
        pytest.param(Interval(0.003, 0.0011, 0.005), False, "worse", id="beyond the margin"),
        pytest.param(Interval(0.003, 0.001, 0.005), True, "not worse", id="at the margin"),
        pytest.param(Interval(0.003, 0.0005, 0.005), True, "not worse", id="within the margin"),
        pytest.param(Interval(0.002, -0.001, 0.005), True, "not worse", id="not shown worse"),
        pytest.param(Interval(0.0, 0.0, 0.0), False, "tie", id="same predictions"),
        pytest.param(Interval(0.0, -0.01, 0.01), False, "tie", id="equal errors"),
        pytest.param(Interval(-TIE_RMSE, -0.01, 0.01), False, "tie", id="same up to rounding"),
        pytest.param(Interval(-0.002, -0.005, 0.001), True, "not worse", id="perhaps better"),
        pytest.param(Interval(-0.005, -0.007, -0.003), True, "not worse", id="better"),
    ],
)
def test_champion_gate(difference: Interval | None, passes: bool, word: str) -> None:
    decision = champion_gate(difference, 0.001)
    assert decision.passed is passes
    assert word in decision.reason


def test_without_a_margin_all_that_is_shown_to_be_worse_is_refused() -> None:
    assert not champion_gate(Interval(0.001, 1e-7, 0.002), 0.0).passed


@settings(deadline=None)
@given(st.floats(-0.1, 0.1), st.floats(0.0, 0.1), st.floats(0.0, 0.1), st.floats(0.0, 0.05))
def test_a_challenger_shown_worse_than_the_margin_never_passes(
    estimate: float, below: float, above: float, margin: float
) -> None:
    difference = Interval(estimate, estimate - below, estimate + above)
    decision = champion_gate(difference, margin)
    if difference.low > margin:
        assert not decision.passed
