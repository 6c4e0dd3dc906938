from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from demand.features.encoding import code_points, letters_table, normalise
from demand.features.kernels import Occurrences, Words, distinct, find_grams, find_words

RUSSIAN = st.text("абвгдеёжзийклмнопрстуфхцчшщъыьэюя АБЁЯ azAZ09.,-!\n", max_size=60)


def of(found: Occurrences, row: int) -> list[int]:
    return found.hashed[found.row == row].tolist()


def read(texts: Sequence[str | None], letters: int = 6) -> Words:
    return find_words(*code_points(texts), letters_table(), letters)


def grams(
    texts: Sequence[str | None], shortest: int, longest: int, first: int, last: int
) -> Occurrences:
    return find_grams(code_points(texts)[0], read(texts), shortest, longest, first, last)


def words(*texts: str | None, letters: int = 6) -> list[list[int]]:
    found = read(texts, letters).stems
    return [of(found, row) for row in range(len(texts))]


def all_grams(*texts: str | None) -> list[list[int]]:
    found = grams(texts, 2, 5, 0, len(texts))
    return [of(found, row) for row in range(len(texts))]


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
        found = of(grams([text], size, size, 0, 1), 0)
        assert len(found) == len(expected)
        assert len(set(found)) == len(set(expected))
        assert len(set(zip(found, expected, strict=True))) == len(set(found))


def test_a_gram_has_one_hash_wherever_it_stands() -> None:
    one, other = all_grams("стол"), all_grams("большой стол")
    assert set(one[0]) < set(other[0])


def test_letters_are_counted() -> None:
    assert read(["Стол, 2 шт.", None, "🙂"]).letters.tolist() == [7, 0, 0]


@given(st.lists(st.text(max_size=20), min_size=3, max_size=5))
def test_grams_of_some_texts_are_those_of_all(texts: list[str]) -> None:
    some, every = grams(texts, 3, 4, 1, 3), grams(texts, 3, 4, 0, len(texts))
    assert set(some.row.tolist()) <= {0, 1}
    assert all(of(some, row - 1) == of(every, row) for row in (1, 2))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=40))
def test_distinct_keeps_one_of_each(pairs: list[tuple[int, int]]) -> None:
    pairs.sort()
    all_pairs = Occurrences(
        np.array([row for row, _ in pairs], dtype=np.int64),
        np.array([h for _, h in pairs], dtype=np.uint64),
    )
    found = distinct(all_pairs)
    kept = list(zip(found.row.tolist(), found.hashed.tolist(), strict=True))
    assert sorted(kept) == sorted(set(pairs))
    assert found.row.tolist() == sorted(found.row.tolist())


@pytest.mark.parametrize("text", ["а" * 5_000_000, "слово " * 800_000, "🙂" * 5_000_000])
def test_five_megabytes_are_read_in_bounded_time(text: str) -> None:
    started = time.monotonic()
    distinct(grams([text], 2, 5, 0, 1))
    assert time.monotonic() - started < 30
