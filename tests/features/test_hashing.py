from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.features.encoding import (
    code_points,
    hash_value,
    hash_values,
    letters_table,
)
from demand.features.kernels import MISSING, count_letters, join, mix


def test_texts_stand_one_after_the_other() -> None:
    code, first = code_points(["Ёж", None, "", "ab"])
    assert "".join(map(chr, code)) == "ежab"
    assert first.tolist() == [0, 2, 2, 2, 4]


@pytest.mark.parametrize(("text", "letters"), [("Стол, 2 шт.", 7), ("", 0), ("🙂 _", 0)])
def test_letters_and_digits_are_counted(text: str, letters: int) -> None:
    assert count_letters(code_points([text])[0], letters_table()) == letters


@given(st.text(max_size=20))
def test_a_value_is_blind_to_case_and_outer_space(value: str) -> None:
    assert hash_value(f" {value}\n") == hash_value(value)
    assert hash_value("ЁЛКА") == hash_value("елка")


def test_missing_values_have_a_hash_of_their_own() -> None:
    hashes = hash_values(["", None, "а"])
    assert hashes[1] == MISSING
    assert len(set(hashes.tolist())) == 3


@pytest.mark.parametrize("combine", [join, mix])
def test_combined_hashes_depend_on_the_order(combine) -> None:
    one, other = np.array([1, 2], dtype=np.uint64), np.array([2, 1], dtype=np.uint64)
    first, second = combine(one, other), combine(other, one)
    assert first[0] != second[0]
    assert first[0] == second[1]


def test_mixing_is_pinned() -> None:
    """A change invalidates saved models: raise ``demand.model.predictor.FORMAT`` with it."""
    assert mix(np.array([1], dtype=np.uint64), 2).tolist() == [10905525725756348110]
