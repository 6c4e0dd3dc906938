"""Arithmetic that is the same everywhere, and near enough to the real functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.demo.exact import (
    logarithm,
    mix,
    normal,
    pick,
    piecewise,
    power_of_two,
    squash,
    uniform,
)
from demand.demo.offers import permute48


@given(st.floats(1e-3, 1e12))
def test_logarithm_is_near_the_real_one(value: float) -> None:
    assert logarithm(np.array([value]))[0] == pytest.approx(np.log2(value), abs=4e-4)


@given(st.floats(-20.0, 40.0))
def test_power_is_near_the_real_one(exponent: float) -> None:
    assert power_of_two(np.array([exponent]))[0] == pytest.approx(2.0**exponent, rel=2e-4)


@given(st.floats(-1e6, 1e6))
def test_squash_stays_inside_and_is_symmetric(value: float) -> None:
    left, right = squash(np.array([-value, value]))
    assert 0.0 <= left <= 1.0
    assert left + right == pytest.approx(1.0)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_piecewise_equals_numpy(positions: list[float]) -> None:
    knots, values = np.array([0.0, 0.2, 0.7, 1.0]), np.array([1.0, -2.0, 5.0, 9.0])
    expected = np.interp(positions, knots, values)
    np.testing.assert_allclose(piecewise(np.array(positions), knots, values), expected, atol=1e-12)


def test_hashes_are_pinned() -> None:
    assert mix(np.array([0, 1], dtype=np.uint64)).tolist() == [
        0xE220A8397B1DCDAF,
        0x910A2DEC89025CC1,
    ]


def test_uniform_numbers_fill_the_unit_interval() -> None:
    drawn = uniform(mix(np.arange(100_000, dtype=np.uint64)), "test")
    counts, _ = np.histogram(drawn, bins=20, range=(0.0, 1.0))
    assert np.abs(counts - 5_000).max() < 350


def test_normal_numbers_have_mean_0_and_variance_1() -> None:
    drawn = normal(np.arange(100_000, dtype=np.uint64))
    assert drawn.mean() == pytest.approx(0.0, abs=0.015)
    assert drawn.std() == pytest.approx(1.0, abs=0.01)


def test_pick_finds_the_interval() -> None:
    ends = np.array([0.25, 0.5, 1.0])
    assert pick(np.array([0.0, 0.2499, 0.25, 0.999]), ends).tolist() == [0, 0, 1, 2]


@given(st.sets(st.integers(0, 2**48 - 1), min_size=2, max_size=200))
def test_scrambled_ids_never_collide(numbers: set[int]) -> None:
    scrambled = permute48(np.array(sorted(numbers), dtype=np.uint64))
    assert len(set(scrambled.tolist())) == len(numbers)
