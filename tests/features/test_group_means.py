from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.features.group_means import GroupMeans
from demand.features.text import mix

ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40
)


def keys_of(groups: list[int]) -> np.ndarray:
    return mix(np.array(groups, dtype=np.uint64), 1)


@given(ROWS, st.floats(0.1, 50), st.integers(1, 4))
def test_the_formula_holds(
    rows: list[tuple[int, float, float]], shrinkage: float, count_min: int
) -> None:
    groups = [group for group, _, _ in rows]
    values, above = np.array([v for _, v, _ in rows]), np.array([a for _, _, a in rows])
    table = GroupMeans.fit(keys_of(groups), values, above, shrinkage=shrinkage, count_min=count_min)
    found = table.lookup(keys_of(groups), np.full(len(rows), -1.0))
    for row, group in enumerate(groups):
        mine = [i for i, other in enumerate(groups) if other == group]
        prior = sum(above[i] for i in mine) / len(mine)
        expected = (sum(values[i] for i in mine) + shrinkage * prior) / (len(mine) + shrinkage)
        assert found[row] == pytest.approx(expected if len(mine) >= count_min else -1.0, abs=1e-6)


def test_an_unknown_group_falls_back_to_the_one_above() -> None:
    table = GroupMeans.fit(keys_of([1, 1]), np.ones(2), np.zeros(2), shrinkage=1.0)
    above = np.array([0.3, 0.4, 0.5])
    found = table.lookup(keys_of([0, 1, 99]), above)
    np.testing.assert_allclose(found, [0.3, 2 / 3, 0.5], rtol=1e-6)


def test_groups_of_one_row_are_left_to_the_one_above() -> None:
    table = GroupMeans.fit(keys_of([1, 2, 2]), np.ones(3), np.zeros(3), shrinkage=1.0)
    assert len(table.keys) == len(table.means) == 1


def test_a_table_without_groups_knows_none() -> None:
    table = GroupMeans.fit(keys_of([1, 2, 3]), np.ones(3), np.zeros(3), shrinkage=1.0)
    above = np.array([0.1, 0.2])
    np.testing.assert_array_equal(table.lookup(keys_of([1, 2]), above), above)


def test_the_order_of_rows_does_not_matter() -> None:
    random = np.random.default_rng(0)
    groups, values = random.integers(0, 9, 200), random.random(200)
    order = random.permutation(200)
    above = np.full(200, 0.5)
    one = GroupMeans.fit(keys_of(list(groups)), values, above, shrinkage=5.0)
    other = GroupMeans.fit(keys_of(list(groups[order])), values[order], above, shrinkage=5.0)
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_allclose(one.means, other.means, rtol=1e-6)


def test_the_table_is_small() -> None:
    table = GroupMeans.fit(keys_of([1, 1]), np.ones(2), np.zeros(2), shrinkage=1.0)
    assert (table.keys.dtype, table.means.dtype) == (np.uint32, np.float32)
