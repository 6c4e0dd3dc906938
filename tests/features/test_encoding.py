from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.features.encoding import (
    TEXTS,
    TITLE_LETTERS_MAX,
    AdColumns,
    encode_ads,
    encode_numeric,
    hash_texts,
    parents,
)
from demand.features.kernels import (
    ALL_LETTERS,
    HAS_IMAGE,
    IMAGE,
    LEVELS,
    LOG_PRICE,
    PARAM_1,
    READ_WHOLE,
    CategoryHashes,
    category_hashes,
)
from tests.ads_factory import make_ads


def columns(**ad: object) -> AdColumns:
    return AdColumns.from_frame(pd.DataFrame([{"title": "а", "category_name": "б"} | ad]))


def test_texts_stand_column_by_column() -> None:
    ads = AdColumns.from_frame(pd.DataFrame({"title": ["аб", "в"], "param_3": ["Г", None]}))
    encoded = encode_ads(ads, letters_max=9)
    assert "".join(map(chr, encoded.code)) == "абвг"
    assert encoded.first.tolist() == [0, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4]
    assert encoded.hashes.shape == (len(TEXTS), 2)


@pytest.mark.parametrize(("text", "letters"), [("стол", READ_WHOLE), ("стол стул", 8.0)])
def test_letters_are_counted_where_a_description_is_read_in_part(text: str, letters: float) -> None:
    encoded = encode_ads(columns(description=text), letters_max=5)
    assert encoded.numeric[ALL_LETTERS].tolist() == [letters]
    assert encoded.first[2] - encoded.first[1] == min(len(text), 5)


@pytest.mark.parametrize("name", ["title", "param_1", "param_2", "param_3"])
def test_of_other_texts_the_beginning_is_read(name: str) -> None:
    encoded = encode_ads(columns(**{"title": None} | {name: "я" * 5000}), letters_max=5)
    assert len(encoded.code) == TITLE_LETTERS_MAX


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("price", [None, -5.0, 0.0, 500.0, np.inf])
def test_a_logarithm_is_numpys_bit_by_bit(price: float | None) -> None:
    """The edges of the bins were learned with it, and many prices lie on one."""
    found = encode_numeric(columns(price=price))[LOG_PRICE]
    expected = np.log1p(np.maximum(np.array([price], dtype=np.float64), 0.0))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("image", "has"), [("x.jpg", 1.0), (None, 0.0)])
def test_an_image_is_told(image: str | None, has: float) -> None:
    assert encode_numeric(columns(image=image))[HAS_IMAGE].tolist() == [has]


def hashes_of(frame: pd.DataFrame) -> CategoryHashes:
    ads = AdColumns.from_frame(frame)
    return category_hashes(hash_texts(ads), ads.number["image_top_1"])


def test_a_chain_joins_a_value_with_those_above_it() -> None:
    ads = make_ads(2)
    for name in TEXTS:
        ads[name] = "одно"
    ads.loc[1, "parent_category_name"] = "другое"
    hashes = hashes_of(ads)
    assert hashes.values[PARAM_1, 0] == hashes.values[PARAM_1, 1]
    assert all(chain[0] != chain[1] for chain in hashes.chain)
    assert (hashes.mixed_chain[:, 0] != hashes.mixed_chain[:, 1]).all()


def test_the_levels_of_the_chain_do_not_meet() -> None:
    hashes = hashes_of(make_ads(500))
    levels = [set(level.tolist()) for level in hashes.mixed_chain]
    assert len(set.union(*levels)) == sum(map(len, levels))
    assert hashes.mixed_chain.shape == (LEVELS, 500)


def test_a_missing_image_class_is_none_of_the_classes() -> None:
    images = [np.nan, 0.0, 1.0, 3066.0, -7.0, 1e300, np.inf]
    hashes = hashes_of(pd.DataFrame({"image_top_1": images}))
    assert hashes.values[IMAGE].tolist() == [0, 1, 2, 3067, 0, 0, 0]


@pytest.mark.parametrize(
    ("given", "category", "found"),
    [
        (None, "Велосипеды", "Хобби и отдых"),
        ("Своя", "Велосипеды", "Своя"),
        (None, "велосипеды", "Хобби и отдых"),
        (None, "нет такой", None),
        (None, None, None),
    ],
)
def test_a_missing_parent_follows_from_the_category(
    given: str | None, category: str | None, found: str | None
) -> None:
    assert parents([given], [category]) == [found]
