from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.features.kernels import mix, smoothed_means
from demand.features.target_encoding import COUNT_MIN, fit_means

ROWS = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=1, max_size=40)
ALONE, BELOW = np.array([-1]), np.array([-1, 0])


def groups_of(groups: list[int], salt: int = 1) -> np.ndarray:
    return mix(np.array(groups, dtype=np.uint64), salt)[None]


@given(ROWS, st.floats(0, 1), st.floats(0.1, 50))
def test_the_formula_holds(rows: list[tuple[int, float]], overall: float, shrinkage: float) -> None:
    groups, values = [group for group, _ in rows], np.array([value for _, value in rows])
    keys, means = fit_means(groups_of(groups), values, ALONE, overall, shrinkage)
    found = smoothed_means(keys, means, groups_of(groups), ALONE, -1.0)[0]
    for row, group in enumerate(groups):
        mine = [values[i] for i, other in enumerate(groups) if other == group]
        expected = (sum(mine) + shrinkage * overall) / (len(mine) + shrinkage)
        assert found[row] == pytest.approx(expected if len(mine) >= COUNT_MIN else -1.0, abs=1e-6)


def test_the_prior_is_the_mean_estimate_of_the_level_above() -> None:
    # Two rows of one group below lie in two groups above, one of them too small to be known.
    groups = np.concatenate([groups_of([1, 1, 2]), groups_of([7, 8, 8], salt=2)])
    values = np.array([1.0, 0.0, 1.0])
    keys, means = fit_means(groups, values, BELOW, 0.2, 1.0)
    found = smoothed_means(keys, means, groups, BELOW, 0.2)
    above = (1.0 + 0.2) / 3
    np.testing.assert_allclose(found[0], [above, above, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found[1, 1:], (1.0 + (above + 0.2) / 2) / 3, rtol=1e-6)
    assert found[1, 0] == found[0, 0]


def test_an_unknown_group_falls_back_to_the_mean_of_all() -> None:
    keys, means = fit_means(groups_of([1, 1]), np.ones(2), ALONE, 0.0, 1.0)
    found = smoothed_means(keys, means, groups_of([0, 1, 99]), ALONE, 0.3)[0]
    np.testing.assert_allclose(found, [0.3, 2 / 3, 0.3], rtol=1e-6)


def test_groups_of_one_row_are_left_to_the_one_above() -> None:
    keys, means = fit_means(groups_of([1, 2, 2]), np.ones(3), ALONE, 0.0, 1.0)
    assert len(keys) == len(means) == 1


def test_a_table_without_groups_knows_none() -> None:
    keys, means = fit_means(groups_of([1, 2, 3]), np.ones(3), ALONE, 0.0, 1.0)
    found = smoothed_means(keys, means, groups_of([1, 2]), ALONE, 0.1)
    np.testing.assert_array_equal(found, [[0.1, 0.1]])


def test_the_order_of_rows_does_not_matter() -> None:
    random = np.random.default_rng(0)
    groups, values = random.integers(0, 9, 200), random.random(200)
    order = random.permutation(200)
    one = fit_means(groups_of(list(groups)), values, ALONE, 0.5, 5.0)
    other = fit_means(groups_of(list(groups[order])), values[order], ALONE, 0.5, 5.0)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_allclose(one[1], other[1], rtol=1e-6)


def test_the_table_is_small() -> None:
    keys, means = fit_means(groups_of([1, 1]), np.ones(2), ALONE, 0.0, 1.0)
    assert (keys.dtype, means.dtype) == (np.uint32, np.float32)
