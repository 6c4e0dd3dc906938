from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from demand.config import FeatureSettings
from demand.features.encoders import TextEncoder
from demand.features.encoding import (
    TITLE_LETTERS_MAX,
    AdColumns,
    encode_ads,
    letters_table,
    normalise,
)
from demand.features.kernels import (
    RARITY_BUCKETS,
    RARITY_SHIFT,
    RARITY_STEP,
    Occurrences,
    Texts,
    count_grams,
    read_texts,
)
from demand.schema.cells import parser_of
from demand.schema.columns import COLUMN
from tests.ads_factory import make_ads

SETTINGS = FeatureSettings()
LIMIT = SETTINGS.description_letters_max
COLUMNS = ["title", "description", "param_1", "param_2", "param_3"]
Ad = tuple[str | None, ...]
TEXT = st.none() | st.text(max_size=30) | st.text("абвё АБЁй azZ09.,-!\n🙂", max_size=60)
# A file of ads loses its NUL characters before it is read.
WITHOUT_NUL = st.text(st.characters(exclude_characters="\0"), max_size=25)
ADS = st.lists(st.tuples(*[TEXT] * len(COLUMNS)), min_size=1, max_size=4)


def read(*ads: Ad) -> Texts:
    padded = [(*ad, *[None] * (len(COLUMNS) - len(ad))) for ad in ads]
    return read_columns(AdColumns.from_frame(pd.DataFrame(padded, columns=COLUMNS)))


def read_columns(ads: AdColumns) -> Texts:
    return read_texts(encode_ads(ads, LIMIT), letters_table(), SETTINGS.word_letters, True)


def of(found: Occurrences, row: int) -> list[int]:
    return found.hashed[found.row == row].tolist()


def said_of(texts: Texts, row: int, rows: int) -> list[object]:
    """All that was read of one ad."""
    said: list[object] = []
    for found in texts:
        if isinstance(found, np.ndarray):
            said.append(found[row])
        else:
            # Rows of a column follow those of the column before it.
            said += [of(found, column * rows + row) for column in range(len(COLUMNS))]
    return said


@given(ADS)
def test_an_ad_is_read_alike_alone_and_among_others(ads: list[Ad]) -> None:
    together = read(*ads)
    for row, ad in enumerate(ads):
        assert said_of(together, row, len(ads)) == said_of(read(ad), 0, 1)


CHANGES: dict[str, Callable[[str], str]] = {
    "upper": str.upper,
    "lower": str.lower,
    "yo": lambda text: text.replace("ё", "е").replace("Ё", "Е"),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "space after": lambda text: f"{text} \n\t",
    "space before": lambda text: f" \n\t{text}",
    "emoji": lambda text: text.replace(" ", " 🙂 ") + "🎉",
    "punctuation": lambda text: text.replace(" ", "!!! ") + " — …",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@given(st.text("абвгдеёжзйщъыьэюя АБЁЙЯ azAZ09", max_size=60))
def test_the_way_of_writing_changes_nothing(change: Callable[[str], str], text: str) -> None:
    ad = (text,) * len(COLUMNS)
    changed = (change(text),) * len(COLUMNS)
    assert said_of(read(changed), 0, 1) == said_of(read(ad), 0, 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("nothing", [None, "", " ", "\n\t", "🙂", "—!", "\ud83d"])
def test_texts_without_words_have_nothing(nothing: str | None) -> None:
    texts = read((nothing,) * len(COLUMNS), (None,) * len(COLUMNS))
    found = [texts.words, texts.title_grams, texts.description_grams]
    assert all(len(each.row) == 0 for each in found)
    assert texts.title_letters.tolist() == texts.description_letters.tolist() == [0.0, 0.0]


def test_no_ads_at_all_can_be_read() -> None:
    texts = read_columns(AdColumns.from_frame(make_ads(3).head(0)))
    assert texts.title_letters.shape == (0,)
    assert len(texts.title_grams.row) == 0


def test_words_are_distinct() -> None:
    texts = read(("стол стол стул", "стул стул"))
    table, chair = of(texts.words, 0)
    assert table != chair
    assert of(texts.words, 1) == [chair]


@pytest.mark.parametrize("text", ["沙发 出售", "أريكة جديدة", "דרגש ישן", "ソファ 大", "Ñandú ß"])
def test_other_alphabets_are_read(text: str) -> None:
    texts = read((text, text))
    assert len(of(texts.words, 0)) == len(of(texts.words, 1)) == 2
    assert texts.title_letters[0] == texts.description_letters[0] == len(text) - 1
    assert len(of(texts.title_grams, 0)) > len(of(texts.description_grams, 0)) > 0


def distinct_grams(text: str, shortest: int, longest: int) -> set[str]:
    """The n-grams that scikit-learn finds between letters and digits."""
    spaced = "".join(c if c.isalnum() and ord(c) < 0x10000 else " " for c in normalise(text))
    analyse = CountVectorizer(analyzer="char_wb", ngram_range=(shortest, longest), lowercase=False)
    return {g for g in analyse.build_analyzer()(spaced) if len(g) >= shortest}


@given(st.lists(st.text(max_size=30), min_size=2, max_size=4))
def test_grams_are_those_of_scikit_learn_each_once(words: list[str]) -> None:
    text = " ".join(words).replace("\0", "")  # no ad has NUL characters
    assume(text == parser_of(COLUMN["description"])(text)[0])  # nor one that says it is none
    texts = read((text, text))
    for hashes, sizes in (
        (of(texts.title_grams, 0), (2, 5)),
        (of(texts.description_grams, 0), (3, 4)),
    ):
        assert len(hashes) == len(set(hashes)) == len(distinct_grams(text, *sizes))


@given(WITHOUT_NUL, WITHOUT_NUL)
def test_two_texts_share_the_hashes_of_the_grams_that_they_share(one: str, other: str) -> None:
    texts = read((one, one), (other, other))
    for found, sizes in ((texts.title_grams, (2, 5)), (texts.description_grams, (3, 4))):
        shared = distinct_grams(one, *sizes) & distinct_grams(other, *sizes)
        assert len(set(of(found, 0)) & set(of(found, 1))) == len(shared)


def test_of_a_description_the_beginning_is_read_and_the_whole_is_measured() -> None:
    beginning = "стол " * (LIMIT // 5)
    short, long = read((None, beginning)), read((None, beginning + "стул " * 50))
    np.testing.assert_array_equal(long.words.hashed, short.words.hashed)
    np.testing.assert_array_equal(long.description_grams.hashed, short.description_grams.hashed)
    assert long.description_letters[0] == short.description_letters[0] + 4 * 50


def test_of_a_title_the_beginning_is_read() -> None:
    assert read(("я" * 5000,)).title_letters.tolist() == [TITLE_LETTERS_MAX]


@pytest.mark.parametrize("text", ["слово " * 900_000, "я" * 5_000_000, "🙂" * 5_000_000, "1! "])
@pytest.mark.parametrize("place", range(len(COLUMNS)))
def test_five_megabytes_are_read_in_bounded_time(text: str, place: int) -> None:
    ad: list[str | None] = [None] * len(COLUMNS)
    ad[place] = text
    started = time.process_time()
    read(tuple(ad))
    assert time.process_time() - started < 5.0


def rarities(found: Occurrences, table: NDArray[np.uint8]) -> set[float]:
    return {float(table[h >> RARITY_SHIFT]) * RARITY_STEP for h in found.hashed}


def test_the_rarity_is_the_inverse_document_frequency() -> None:
    texts = read(("ааа",), ("ааа",), ("ааа",), ("жжж",))
    table = TextEncoder.fit(count_grams(texts), 4).rarity
    assert (table.shape, table.dtype) == ((RARITY_BUCKETS,), np.uint8)
    common, rare = read(("ааа",)).title_grams, read(("жжж",)).title_grams
    half = RARITY_STEP / 2
    for each in rarities(common, table):
        assert each == pytest.approx(1.0 + np.log(5 / 4), abs=half)
    for each in rarities(rare, table):
        assert each == pytest.approx(1.0 + np.log(5 / 2), abs=half)


def test_a_gram_of_every_ad_has_the_rarity_of_one() -> None:
    """In title and description it occurs twice an ad, and still in no more ads than there are."""
    texts = read(*[("ааа", "ааа")] * 5)
    assert rarities(texts.description_grams, TextEncoder.fit(count_grams(texts), 5).rarity) == {1.0}


def test_the_rarity_of_many_ads_fits_its_eight_bits() -> None:
    table = TextEncoder.fit(count_grams(read((None,))), 5_000_000).rarity
    assert table.min() * RARITY_STEP == pytest.approx(1.0 + np.log(5_000_001), abs=0.6)


LONG = " ".join(f"слово{i} йод" for i in range(80))


@pytest.mark.parametrize(
    "changed",
    [
        LONG.replace(" ", "  "),
        LONG.replace(" ", " 🙂 "),
        LONG.replace(" ", "!!! "),
        " " * 120 + LONG,
        unicodedata.normalize("NFD", LONG),
    ],
    ids=["doubled spaces", "emoji", "exclamation", "leading spaces", "decomposed"],
)
def test_what_separates_words_does_not_move_the_end_of_what_is_read(changed: str) -> None:
    def description(text: str) -> list[int]:
        return read((text, text)).words.hashed.tolist()

    assert description(changed) == description(LONG)
