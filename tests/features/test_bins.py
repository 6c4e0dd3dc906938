from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.features.bins import MISSING_BIN, Bins, Scale, binned

SCALE = Scale(-1.0, 0.5, 6)  # centres from -1 to 1.5
NUMBERS = st.floats(-1e6, 1e6)


def place(*values: float) -> Bins:
    return binned([np.array(values)], [SCALE])[0]


@given(NUMBERS)
def test_the_weights_have_unit_length(value: float) -> None:
    assert (place(value).weight ** 2).sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("value", "bins"), [(-1.0, 0), (0.0, 2), (1.0, 4)])
def test_a_centre_belongs_to_its_bin_alone(value: float, bins: int) -> None:
    found = place(value)
    assert found.number[0, 0] == bins
    np.testing.assert_allclose(found.weight[0], [1.0, 0.0])


def test_the_middle_belongs_to_both_neighbours() -> None:
    found = place(0.25)
    assert found.number[0].tolist() == [2, 3]
    np.testing.assert_allclose(found.weight[0], np.sqrt([0.5, 0.5]))


@given(st.floats(-1.0, 1.5))
def test_near_numbers_have_near_weights(value: float) -> None:
    def dense(number: float) -> np.ndarray:
        found, row = place(number), np.zeros(SCALE.count)
        row[found.number[0].astype(int)] = found.weight[0]
        return row

    np.testing.assert_allclose(dense(value), dense(value + 1e-6), atol=1e-4)


@pytest.mark.parametrize(("value", "same"), [(-1e300, -1.0), (1e300, 1.5), (np.inf, 1.5)])
def test_what_lies_outside_belongs_to_the_outermost_bin(value: float, same: float) -> None:
    np.testing.assert_array_equal(place(value).number, place(same).number)
    np.testing.assert_allclose(place(value).weight, place(same).weight)


@pytest.mark.filterwarnings("error")
def test_a_missing_number_is_a_bin_of_its_own() -> None:
    found = place(np.nan, 0.0)
    assert found.number[0].tolist() == [MISSING_BIN, MISSING_BIN]
    assert found.weight[0].tolist() == [1.0, 0.0]
    assert found.number[1].tolist() == [2, 3]


def test_scales_do_not_disturb_each_other() -> None:
    values = np.array([0.3, np.nan]), np.array([7.0, 2.0])
    together = binned(values, [SCALE, Scale(0.0, 1.0, 9)])
    np.testing.assert_array_equal(together[0].weight, place(0.3, np.nan).weight)
    assert together[1].number.tolist() == [[7, 8], [2, 3]]
