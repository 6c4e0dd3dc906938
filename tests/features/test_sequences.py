from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.config import FeatureSettings
from demand.features.coding import code_ads
from demand.features.columns import AdColumns
from demand.features.sequences import PADDING, word_sequences
from demand.features.text import letters_table
from demand.features.words import find_words

SETTINGS = FeatureSettings(text_encoder="gru", sequence_words_max=5, sequence_buckets=1000)


def sequences(
    *ads: tuple[str | None, str | None], longest: int = SETTINGS.sequence_words_max
) -> np.ndarray:
    frame = pd.DataFrame(ads, columns=["title", "description"])
    ads = code_ads(AdColumns.from_frame(frame), SETTINGS.description_letters_max)
    words = find_words(ads.code, ads.first, letters_table(), SETTINGS.word_letters)
    return word_sequences(words.stems, len(frame), longest, SETTINGS.sequence_buckets)


def test_words_stand_in_their_order_title_first() -> None:
    found = sequences(("а б", "в г"), ("в", "а"))
    assert found.shape == (2, 5)
    assert found[1, :2].tolist() == [found[0, 2], found[0, 0]]
    assert (found[0, :4] != PADDING).all()


def test_padding_stands_behind_the_last_word() -> None:
    found = sequences(("а", None), (None, None))
    assert (found[0, 1:] == PADDING).all()
    assert (found[1] == PADDING).all()


def test_a_repeated_word_is_read_again() -> None:
    found = sequences(("а а а", None))
    assert found[0, 0] == found[0, 1] == found[0, 2] != PADDING


def test_words_past_the_end_are_not_read() -> None:
    np.testing.assert_array_equal(sequences(("а б в г д е ж", "з")), sequences(("а б в г д", None)))


@pytest.mark.parametrize("ads", [[("а б", "в"), ("г", None)], [(None, "а"), ("б", "б")]])
def test_an_ad_is_read_alike_alone_and_among_others(
    ads: list[tuple[str | None, str | None]],
) -> None:
    together = sequences(*ads)
    for row, ad in enumerate(ads):
        np.testing.assert_array_equal(sequences(ad)[0], together[row])


def test_buckets_lie_within_the_table() -> None:
    found = sequences(*((f"слово{i}", None) for i in range(500)))
    assert 0 < found[:, 0].min() <= found[:, 0].max() < SETTINGS.sequence_buckets


def test_where_no_words_are_read_there_is_no_column() -> None:
    assert sequences(("а", "б"), ("в", None), longest=0).shape == (2, 0)
