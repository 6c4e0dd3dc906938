"""The target: drawn so that its mean is the one that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.demo.exact import mix
from demand.demo.lexicon import CATEGORIES, PARENTS
from demand.demo.target import HIGHEST, LOWEST, chances, draw_targets


@given(st.floats(LOWEST, HIGHEST), st.integers(0, len(PARENTS) - 1))
def test_chances_are_chances(mean: float, parent: int) -> None:
    small, high = chances(np.array([mean]), np.array([parent]))
    assert small[0] >= 0.0
    assert high[0] >= 0.0
    assert small[0] + high[0] <= 0.9801


@pytest.mark.parametrize("category", ["Квартиры", "Предложение услуг", "Телефоны", "Собаки"])
@pytest.mark.parametrize("mean", [0.02, 0.15, 0.4, 0.7])
def test_targets_have_the_mean_that_was_asked_for(category: str, mean: float) -> None:
    rows = 100_000
    index = CATEGORIES.index(category)
    keys = mix(np.arange(rows, dtype=np.uint64))
    targets = draw_targets(np.full(rows, mean), np.full(rows, index), keys)
    # Four standard errors of a target that is 0 or 0.9.
    assert targets.mean() == pytest.approx(mean, abs=4 * (mean * 0.9 / rows) ** 0.5)
