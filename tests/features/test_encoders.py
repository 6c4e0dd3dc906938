from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.features.encoders import (
    COUNT_MIN,
    NumberEncoder,
    PriceEncoder,
    TargetMeanEncoder,
    TextEncoder,
    fit_means,
    out_of_fold,
)
from demand.features.kernels import (
    CLIP,
    DENSE_NUMBERS,
    LEVELS,
    RARITY_BUCKETS,
    TARGET_ABOVE,
    TARGET_GROUPS,
    mix,
    smoothed_means,
)

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


def kinds_of(values: np.ndarray) -> np.ndarray:
    """Return groups of each kind, of the numbers of shape (kinds, n)."""
    return np.stack([mix(row.astype(np.uint64), kind) for kind, row in enumerate(values)])


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 5))
def test_means_out_of_fold_are_those_of_the_other_folds(seed: int, rows: int, folds: int) -> None:
    random = np.random.default_rng(seed)
    groups = kinds_of(random.integers(0, 4, (len(TARGET_GROUPS), rows)))
    target, fold = random.random(rows), random.integers(0, folds, rows)
    found = out_of_fold(groups, target, fold, 3.0)
    for number in np.unique(fold):
        held, others = fold == number, fold != number
        expected = np.full(groups[:, held].shape, target.mean())
        if others.any():
            mean = target[others].mean()
            table = fit_means(groups[:, others], target[others], TARGET_ABOVE, mean, 3.0)
            expected = smoothed_means(*table, groups[:, held], TARGET_ABOVE, mean)
        np.testing.assert_array_equal(found[:, held], expected)


def fitted() -> tuple[PriceEncoder, NumberEncoder, TextEncoder, TargetMeanEncoder]:
    random = np.random.default_rng(1)
    chain = kinds_of(random.integers(0, 3, (LEVELS, 200)))
    groups = kinds_of(random.integers(0, 3, (len(TARGET_GROUPS), 200)))
    target, fold = random.random(200), random.integers(0, 4, 200)
    return (
        PriceEncoder.fit(np.where(random.random(200) < 0.2, np.nan, 7.0), chain, 4),
        NumberEncoder.fit(random.normal(size=(DENSE_NUMBERS, 200)), 4),
        TextEncoder.fit(random.integers(0, 200, RARITY_BUCKETS), 200),
        TargetMeanEncoder.fit_transform(groups, target, fold, 3.0)[0],
    )


@pytest.mark.parametrize("encoder", fitted(), ids=lambda encoder: type(encoder).__name__)
def test_arrays_are_all_of_the_state(encoder: PriceEncoder) -> None:
    arrays = encoder.to_arrays()
    again = type(encoder).from_arrays(arrays)
    for one, other in zip(encoder, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for name in arrays:
        lost = {other: array for other, array in arrays.items() if other != name}
        with pytest.raises(LookupError, match=name):
            type(encoder).from_arrays(lost)
        with pytest.raises(ValueError, match=name):
            type(encoder).from_arrays(arrays | {name: np.zeros((2, 2))})


def test_prices_are_usual_where_they_were_seen() -> None:
    chain = kinds_of(np.array([[1] * 8] * (LEVELS - 1) + [[1] * 4 + [2] * 4]))
    logs = np.array([2.0, 2.0, 2.0, 2.0, 8.0, 8.0, 8.0, np.nan])
    encoder = PriceEncoder.fit(logs, chain, 2)
    levels = encoder.transform(chain)
    assert levels.shape == (LEVELS, 8)
    assert levels[-1, 0] < levels[0, 0] == levels[0, -1] < levels[-1, -1] < 8.0
    assert encoder.bins.tolist() == [2.0]


def test_prices_that_are_all_missing_have_a_level() -> None:
    chain = kinds_of(np.ones((LEVELS, 5)))
    encoder = PriceEncoder.fit(np.full(5, np.nan), chain, 4)
    np.testing.assert_array_equal(encoder.transform(chain), np.zeros((LEVELS, 5)))


@given(st.integers(0, 1000), st.floats(-1e6, 1e6))
def test_a_larger_number_is_through_more_of_its_bins(seed: int, value: float) -> None:
    numbers = np.random.default_rng(seed).normal(size=(DENSE_NUMBERS, 50))
    encoder = NumberEncoder.fit(numbers, 5)
    asked = np.repeat([[value, value + 1.0]], DENSE_NUMBERS, axis=0)
    dense = encoder.transform(asked)
    bins, scaled = dense[:, : len(encoder.low)], dense[:, len(encoder.low) :]
    assert dense.dtype == np.float32
    assert ((bins >= 0) & (bins <= 1)).all()
    assert (np.diff(dense, axis=0) >= 0).all()
    assert scaled.shape == (2, DENSE_NUMBERS)
    assert np.abs(scaled).max() <= CLIP


def test_a_number_that_is_always_the_same_has_a_bin() -> None:
    encoder = NumberEncoder.fit(np.full((DENSE_NUMBERS, 9), 4.0), 3)
    assert len(encoder.low) == DENSE_NUMBERS
    assert np.isfinite(encoder.transform(np.full((DENSE_NUMBERS, 2), 9.0))).all()
