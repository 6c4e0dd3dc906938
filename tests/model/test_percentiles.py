from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.features.encoding import hash_values
from demand.model.calibration import Percentiles
from demand.schema.columns import CATEGORY_ROWS_MIN

ROWS = 400
RNG = np.random.default_rng(0)
CHEAP, DEAR = RNG.random(ROWS) * 0.1, 0.5 + RNG.random(ROWS) * 0.4
TABLE = Percentiles.fit(np.concatenate([CHEAP, DEAR]), ["a"] * ROWS + ["b"] * ROWS)


@given(st.floats(0.0, 0.1))
def test_a_percentile_is_the_share_of_the_category_below(answer: float) -> None:
    found = TABLE.of([answer], ["a"])[0]
    assert found == pytest.approx(np.mean(answer > CHEAP), abs=0.03)


def test_categories_are_ranked_by_themselves() -> None:
    assert TABLE.of([0.3, 0.3], ["a", "b"]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("category", [None, "unknown"])
def test_an_unknown_category_is_ranked_among_all(category: str | None) -> None:
    assert TABLE.of([0.3], [category])[0] == pytest.approx(0.5, abs=0.02)


def test_a_small_category_is_ranked_among_all() -> None:
    few = CATEGORY_ROWS_MIN - 1
    table = Percentiles.fit(np.concatenate([CHEAP, np.ones(few)]), ["a"] * ROWS + ["c"] * few)
    assert len(table.keys) == 1
    assert table.of([0.3], ["c"])[0] == pytest.approx(ROWS / (ROWS + few), abs=0.02)


def test_equal_answers_share_the_middle() -> None:
    table = Percentiles.fit(np.full(100, 0.25), ["a"] * 100)
    assert table.of([0.25, 0.2, 0.3], ["a"] * 3).tolist() == [0.5, 0.0, 1.0]


def test_it_survives_being_stored() -> None:
    again = Percentiles.from_arrays(TABLE.to_arrays())
    assert again is not None
    np.testing.assert_array_equal(again.of(DEAR, ["b"] * ROWS), TABLE.of(DEAR, ["b"] * ROWS))


def test_there_is_a_category_an_answer() -> None:
    with pytest.raises(ValueError, match=r"categories of shape \(1,\) for answers of shape \(2,\)"):
        TABLE.of([0.1, 0.2], ["a"])


def test_names_and_their_hashes_say_the_same() -> None:
    names = ["a", None, "b", "unknown"]
    answers = [0.05, 0.3, 0.6, 0.9]
    np.testing.assert_array_equal(TABLE.of(answers, hash_values(names)), TABLE.of(answers, names))
