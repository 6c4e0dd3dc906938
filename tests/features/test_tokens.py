from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

from demand.config import FeatureSettings
from demand.features.columns import AdColumns
from demand.features.text import Hashes
from demand.features.tokens import (
    PRICE_MISSING,
    TOKEN_WEIGHT,
    VALUE_SALTS,
    SparseRows,
    hash_keys,
    hash_words,
    sparse_rows,
)
from tests.ads_factory import make_ads

SETTINGS = FeatureSettings(buckets=512, word_letters=6)


def tokens_of(ads: pd.DataFrame, settings: FeatureSettings = SETTINGS) -> SparseRows:
    columns = AdColumns.from_frame(ads)
    title, title_words = hash_words(columns.text["title"], 50, settings.word_letters)
    description, _ = hash_words(
        columns.text["description"], settings.description_words_max, settings.word_letters
    )
    bins: Hashes = np.full(len(ads), PRICE_MISSING, dtype=np.uint64)
    return sparse_rows(columns, hash_keys(columns), title, description, title_words, bins, settings)


def row(rows: SparseRows, number: int) -> list[tuple[int, float]]:
    place = slice(rows.starts[number], rows.starts[number + 1])
    return list(zip(rows.buckets[place].tolist(), rows.weights[place].tolist(), strict=True))


def test_words_are_hashed_row_after_row() -> None:
    found, lists = hash_words(["Новый шкаф", None, "🙂", "шкаф"], 50, 6)
    assert lists == [["новый", "шкаф"], [], [], ["шкаф"]]
    assert found.row.tolist() == [0, 0, 3]
    assert found.counts.tolist() == [2, 0, 0, 1]
    assert found.letters.tolist() == [9, 0, 0, 4]
    assert found.hashed[1] == found.hashed[2] != found.hashed[0]


def test_words_that_begin_alike_share_a_hash() -> None:
    found, _ = hash_words(["велосипед велосипеды"], 50, 6)
    assert found.hashed[0] == found.hashed[1]


def test_a_chain_joins_a_value_with_those_above_it() -> None:
    ads = make_ads(2)
    for name in VALUE_SALTS:
        ads[name] = 1.0 if name == "image_top_1" else "одно"
    ads.loc[1, "parent_category_name"] = "другое"
    keys = hash_keys(AdColumns.from_frame(ads))
    assert keys.value["param_1"][0] == keys.value["param_1"][1]
    assert all(chain[0] != chain[1] for chain in keys.chain)


def test_a_missing_image_class_is_none_of_the_classes() -> None:
    images = [np.nan, 0.0, 1.0, 3066.0, -7.0, 1e300, np.inf]
    ads = AdColumns.from_frame(pd.DataFrame({"image_top_1": images}))
    assert hash_keys(ads).value["image_top_1"].tolist() == [0, 1, 2, 3067, 0, 0, 0]


def test_rows_are_compressed_one_after_the_other() -> None:
    ads = make_ads(50)
    rows = tokens_of(ads)
    assert (len(rows.starts), rows.starts[0], rows.starts[-1]) == (51, 0, len(rows.buckets))
    assert (np.diff(rows.starts) >= len(VALUE_SALTS)).all()
    assert rows.weights.dtype == np.float32
    assert 0 <= rows.buckets.min() <= rows.buckets.max() < SETTINGS.buckets


def test_the_tokens_of_an_ad_do_not_depend_on_its_neighbours() -> None:
    ads = make_ads(30)
    rows = tokens_of(ads)
    for number in range(30):
        alone = tokens_of(ads.iloc[number : number + 1])
        assert row(alone, 0) == row(rows, number)


def test_the_words_of_a_field_share_their_weight() -> None:
    ads = make_ads(1)
    ads["description"] = None
    ads["title"] = None
    values_only = len(tokens_of(ads).buckets)
    ads["description"] = "один два три четыре"
    words = tokens_of(ads).weights[:4]
    assert len(tokens_of(ads).buckets) == values_only + 4
    np.testing.assert_allclose(np.abs(words), TOKEN_WEIGHT / 2)


def test_a_word_weighs_differently_in_title_and_description() -> None:
    ads = make_ads(1)
    ads["title"], ads["description"] = "шкаф", None
    in_title = row(tokens_of(ads), 0)[0]
    ads["title"], ads["description"] = None, "шкаф"
    assert row(tokens_of(ads), 0)[0] != in_title


def test_an_ad_without_any_value_has_tokens() -> None:
    assert len(tokens_of(pd.DataFrame({"title": [None, None]})).buckets) >= 2 * len(VALUE_SALTS)


@pytest.mark.parametrize("buckets", [1, 3, 1_000_003])
def test_any_number_of_buckets_will_do(buckets: int) -> None:
    rows = tokens_of(make_ads(5), FeatureSettings(buckets=buckets))
    assert rows.buckets.max() < buckets


def test_the_tokens_of_an_ad_are_pinned() -> None:
    """A change invalidates saved models: raise ``demand.predictor.FORMAT`` with it."""
    ad = {
        "title": "Велосипед горный",
        "description": "Почти новый.",
        "parent_category_name": "Хобби и отдых",
        "category_name": "Велосипеды",
        "image_top_1": 5.0,
    }
    rows = tokens_of(pd.DataFrame([ad]))
    digest = hashlib.md5(rows.buckets.tobytes() + rows.weights.tobytes(), usedforsecurity=False)
    assert digest.hexdigest() == "fabb19da6d99fde4cc4d96e40d8a57da"
