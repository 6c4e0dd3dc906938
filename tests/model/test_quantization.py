from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.model.predictor import dequantize_table, quantize_table

PLACES = st.dictionaries(st.integers(0, 150_000), st.floats(-5, 5), max_size=20)


@given(PLACES)
def test_a_table_survives_but_for_rounding(weights: dict[int, float]) -> None:
    """Also where steps from place to place do not fit into 16 bits."""
    table = np.zeros(150_001)
    table[list(weights)] = list(weights.values())
    packed = quantize_table(table)
    step = max(np.abs(table).max(), 1e-12) / 127.0
    np.testing.assert_allclose(
        dequantize_table(packed, len(table)), table, rtol=0, atol=step * 0.51
    )


def test_what_is_zero_takes_no_room() -> None:
    table = np.zeros(1 << 20)
    table[::100] = 1.0
    packed = quantize_table(table)
    assert sum(array.nbytes for array in packed.values()) < 3 * len(table) / 100 + 10


@pytest.mark.parametrize("table", [np.zeros(5), np.zeros(0), np.full(70_000, 0.5)])
def test_tables_of_nothing_and_of_one_value(table: np.ndarray) -> None:
    np.testing.assert_allclose(
        dequantize_table(quantize_table(table), len(table)), table, rtol=1e-6
    )


def test_the_largest_weight_is_kept_as_it_is() -> None:
    table = np.array([0.0, -3.75, 0.01])
    assert dequantize_table(quantize_table(table), 3)[1] == np.float32(-3.75)


def test_a_table_that_is_larger_than_its_buckets_is_an_error() -> None:
    with pytest.raises(IndexError):
        dequantize_table(quantize_table(np.ones(9)), 8)
