from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from demand.features.text import (
    MISSING,
    Letters,
    Occurrences,
    hash_value,
    hash_values,
    join,
    mix,
    normalise,
)

RUSSIAN = st.text("абвгдеёжзийклмнопрстуфхцчшщъыьэюя АБЁЯ azAZ09.,-!\n", max_size=60)
LONG = 400


def of(found: Occurrences, row: int) -> list[int]:
    return found.hashed[found.row == row].tolist()


def words(*texts: str | None, letters: int = 6) -> list[list[int]]:
    found = Letters.of(texts).stems(letters)
    return [of(found, row) for row in range(len(texts))]


def all_grams(*texts: str | None) -> list[list[int]]:
    sizes = Letters.of(texts).grams(2, 5)
    return [[h for size in sizes for h in of(size, row)] for row in range(len(texts))]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (None, ""),
        ("  \n\t", ""),
        ("🙂 — !!! ___", ""),
        ("Ёлка новая", "елка новая"),
        ("iPhone_7,128Гб", "iphone 7 128гб"),
        ("диван…ДИВАН", "диван диван"),
    ],
)
def test_only_letters_and_digits_count(text: str | None, same: str) -> None:
    assert words(text) == words(same)
    assert all_grams(text) == all_grams(same)


@pytest.mark.parametrize("text", ["沙发 ソファ أريكة", "диван", "x", "7"])
def test_other_alphabets_have_words(text: str) -> None:
    assert len(words(text)[0]) == len(text.split())


def test_words_that_begin_alike_share_a_hash() -> None:
    (found,) = words("велосипед велосипеды велос")
    assert found[0] == found[1] != found[2]


@given(RUSSIAN)
def test_case_changes_nothing(text: str) -> None:
    assert words(text.upper()) == words(text) == words(text.lower())
    assert all_grams(text.upper()) == all_grams(text)


@given(RUSSIAN)
def test_yo_is_ye(text: str) -> None:
    assert words(text.replace("ё", "е").replace("Ё", "Е")) == words(text)


@given(RUSSIAN, st.sampled_from([" ", "\n", "\t ", "!!!", "🙂", " 🎉🎉", "…", "_"]))
def test_what_is_no_letter_at_the_end_changes_nothing(text: str, end: str) -> None:
    assert words(text + end) == words(text)
    assert all_grams(text + end) == all_grams(text)


@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), min_size=1, max_size=5))
def test_a_text_is_read_alike_alone_and_among_others(texts: list[str | None]) -> None:
    assert words(*texts) == [words(text)[0] for text in texts]
    assert all_grams(*texts) == [all_grams(text)[0] for text in texts]


@given(RUSSIAN)
def test_grams_are_those_of_scikit_learn(text: str) -> None:
    """Its ``char_wb`` repeats a word's only n-gram where the word is shorter; ours does not."""
    spaced = " ".join("".join(c if c.isalnum() else " " for c in normalise(text)).split())
    for size in (2, 3, 4, 5):
        analyse = CountVectorizer(analyzer="char_wb", ngram_range=(size, size)).build_analyzer()
        expected = [gram for gram in analyse(spaced) if len(gram) == size]
        found = of(Letters.of([text]).grams(size, size)[0], 0)
        assert len(found) == len(expected)
        assert len(set(found)) == len(set(expected))
        assert len(set(zip(found, expected, strict=True))) == len(set(found))


def test_a_gram_has_one_hash_wherever_it_stands() -> None:
    one, other = all_grams("стол"), all_grams("большой стол")
    assert set(one[0]) < set(other[0])


def test_letters_are_counted() -> None:
    assert Letters.of(["Стол, 2 шт.", None, "🙂"]).counts.tolist() == [7, 0, 0]


def test_the_first_texts_can_be_taken() -> None:
    letters = Letters.of(["стол", None, "стул"])
    assert letters.head(2).rows == 2
    assert of(letters.head(2).stems(6), 0) == words("стол")[0]
    assert len(letters.head(2).stems(6).row) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=40))
def test_distinct_keeps_one_of_each(pairs: list[tuple[int, int]]) -> None:
    pairs.sort()
    found = Occurrences(
        np.array([row for row, _ in pairs], dtype=np.int64),
        np.array([h for _, h in pairs], dtype=np.uint64),
    ).distinct()
    kept = list(zip(found.row.tolist(), found.hashed.tolist(), strict=True))
    assert sorted(kept) == sorted(set(pairs))
    assert found.row.tolist() == sorted(found.row.tolist())


def test_rows_between_two_are_counted_from_the_first() -> None:
    found = Occurrences(np.array([0, 2, 2, 5]), np.array([1, 2, 3, 4], dtype=np.uint64))
    part = found.between(2, 5)
    assert (part.row.tolist(), part.hashed.tolist()) == ([0, 0], [2, 3])


@pytest.mark.parametrize("text", ["а" * 5_000_000, "слово " * 800_000, "🙂" * 5_000_000])
def test_five_megabytes_are_read_in_bounded_time(text: str) -> None:
    started = time.monotonic()
    Letters.of([text]).stems(6)
    assert time.monotonic() - started < 30


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
    """A change invalidates saved models: raise ``demand.predictor.FORMAT`` with it."""
    assert mix(np.array([1], dtype=np.uint64), 2).tolist() == [10905525725756348110]
