from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.features.text import MISSING, WORD, hash_value, hash_values, hash_word, mix, words

RUSSIAN = st.text("абвгдеёжзийклмнопрстуфхцчшщъыьэюя АБЁЯ azAZ09.,-!\n", max_size=60)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, []),
        ("", []),
        ("  \n\t", []),
        ("🙂 — !!! ___", []),
        ("Ёлка новая", ["елка", "новая"]),
        ("iPhone_7,128Гб", ["iphone", "7", "128гб"]),
        ("диван диван ДИВАН шкаф", ["диван", "шкаф"]),
        ("沙发 ソファ أريكة", ["沙发", "ソファ", "أريكة"]),
    ],
)
def test_words_are_found_in_any_text(text: str | None, found: list[str]) -> None:
    assert words(text, 50) == found


@given(RUSSIAN)
def test_case_does_not_change_words(text: str) -> None:
    assert words(text.upper(), 50) == words(text, 50) == words(text.lower(), 50)


@given(RUSSIAN)
def test_yo_is_ye(text: str) -> None:
    assert words(text.replace("ё", "е").replace("Ё", "Е"), 50) == words(text, 50)


@given(RUSSIAN, st.sampled_from([" ", "\n", "\t ", "!!!", "🙂", " 🎉🎉", "…", "_"]))
def test_what_is_no_letter_at_the_end_does_not_change_words(text: str, end: str) -> None:
    assert words(text + end, 50) == words(text, 50)


@given(st.text(max_size=200), st.integers(0, 20))
def test_words_are_distinct_and_no_more_than_the_limit(text: str, limit: int) -> None:
    found = words(text, limit)
    assert len(found) == len(set(found)) <= limit
    assert all(WORD.fullmatch(word) for word in found)


def test_words_past_the_limit_are_not_read() -> None:
    assert words("один два два три", 3) == ["один", "два"]


def test_the_hash_of_a_word_is_pinned() -> None:
    assert (hash_word("велосипед"), hash_word("")) == (1725579074, 0)


def test_the_hash_of_a_value_is_blind_to_case_yo_and_outer_space() -> None:
    assert hash_value("  Щётки ") == hash_value("ЩЕТКИ") == hash_word("щетки")
    assert hash_value("Щет ки") != hash_value("Щетки")


def test_a_missing_value_has_a_hash_of_its_own() -> None:
    assert hash_values([None, "а", None]).tolist() == [MISSING, hash_word("а"), MISSING]
    assert hash_values([""]).tolist() != [MISSING]


def test_half_a_surrogate_pair_can_be_hashed() -> None:
    assert hash_word("\ud83d") == hash_value("\ud83d")


def test_mixing_is_pinned() -> None:
    first = np.array([0, 1, MISSING, 2**64 - 1], dtype=np.uint64)
    assert mix(first, 3).tolist() == [
        2185194620014831856,
        2092789425003139053,
        7888475852233880707,
        3282917337250723478,
    ]


def test_mixing_depends_on_the_order() -> None:
    a, b = np.array([1], np.uint64), np.array([2], np.uint64)
    assert mix(a, b) != mix(b, a)


def test_mixing_with_a_number_is_mixing_with_an_array_of_it() -> None:
    hashes = np.arange(100, dtype=np.uint64)
    np.testing.assert_array_equal(mix(hashes, 7), mix(hashes, np.full(100, 7, np.uint64)))


def test_mixed_hashes_spread_evenly_over_buckets() -> None:
    counts = np.bincount((mix(np.arange(64_000, dtype=np.uint64), 1) % np.uint64(64)).astype(int))
    assert 850 < counts.min() < counts.max() < 1150


@pytest.mark.parametrize("text", ["слово " * 900_000, "я" * 5_000_000, "! " * 2_500_000])
def test_five_megabytes_are_read_in_bounded_time(text: str) -> None:
    started = time.process_time()
    words(text, 120)
    assert time.process_time() - started < 5.0
