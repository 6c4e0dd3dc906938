from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.features.kernels import MISSING_BIN, Bins, Scale, place_number, roundness

SCALE = Scale(-1.0, 0.5, 6)  # centres from -1 to 1.5
NUMBERS = st.floats(-1e6, 1e6)


def place(value: float) -> Bins:
    return place_number(value, SCALE)


@given(NUMBERS)
def test_the_weights_have_unit_length(value: float) -> None:
    found = place(value)
    assert found.lower_weight**2 + found.upper_weight**2 == pytest.approx(1.0)


@pytest.mark.parametrize(("value", "bins"), [(-1.0, 0), (0.0, 2), (1.0, 4)])
def test_a_centre_belongs_to_its_bin_alone(value: float, bins: int) -> None:
    assert place(value) == (bins, bins + 1, 1.0, 0.0)


def test_the_middle_belongs_to_both_neighbours() -> None:
    assert place(0.25) == pytest.approx((2, 3, np.sqrt(0.5), np.sqrt(0.5)))


@given(st.floats(-1.0, 1.5))
def test_near_numbers_have_near_weights(value: float) -> None:
    def dense(number: float) -> np.ndarray:
        found, row = place(number), np.zeros(SCALE.bins)
        row[[found.lower, found.upper]] = found.lower_weight, found.upper_weight
        return row

    np.testing.assert_allclose(dense(value), dense(value + 1e-6), atol=1e-4)


@pytest.mark.parametrize(("value", "same"), [(-1e300, -1.0), (1e300, 1.5), (np.inf, 1.5)])
def test_what_lies_outside_belongs_to_the_outermost_bin(value: float, same: float) -> None:
    assert place(value) == place(same)


def test_a_missing_number_is_a_bin_of_its_own() -> None:
    assert place(np.nan) == (MISSING_BIN, MISSING_BIN, 1.0, 0.0)


@pytest.mark.parametrize(
    ("price", "kind"),
    [
        (np.nan, 0),
        (np.inf, 0),
        (-5.0, 0),
        (0.0, 1),
        (25_000.0, 2),
        (1_900.0, 3),
        (990.0, 4),
        (999.0, 5),
        (0.5, 5),
    ],
)
def test_prices_are_told_apart_by_their_zeros(price: float, kind: int) -> None:
    assert roundness(price) == kind
