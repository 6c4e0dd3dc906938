from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.features.coding import (
    ALL_LETTERS,
    HAS_IMAGE,
    LOG_PRICE,
    READ_WHOLE,
    TITLE_LETTERS_MAX,
    code_ads,
    code_numbers,
)
from demand.features.columns import AdColumns
from demand.features.keys import TEXTS


def columns(**ad: object) -> AdColumns:
    return AdColumns.from_frame(pd.DataFrame([{"title": "а", "category_name": "б"} | ad]))


def test_texts_stand_column_by_column() -> None:
    ads = AdColumns.from_frame(pd.DataFrame({"title": ["аб", "в"], "param_3": ["Г", None]}))
    coded = code_ads(ads, letters_max=9)
    assert "".join(map(chr, coded.code)) == "абвг"
    assert coded.first.tolist() == [0, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4]
    assert coded.hashes.shape == (len(TEXTS), 2)


@pytest.mark.parametrize(("text", "letters"), [("стол", READ_WHOLE), ("стол стул", 8.0)])
def test_letters_are_counted_where_a_description_is_read_in_part(text: str, letters: float) -> None:
    coded = code_ads(columns(description=text), letters_max=5)
    assert coded.numbers[ALL_LETTERS].tolist() == [letters]
    assert coded.first[2] - coded.first[1] == min(len(text), 5)


@pytest.mark.parametrize("name", ["title", "param_1", "param_2", "param_3"])
def test_of_other_texts_the_beginning_is_read(name: str) -> None:
    coded = code_ads(columns(**{"title": None} | {name: "я" * 5000}), letters_max=5)
    assert len(coded.code) == TITLE_LETTERS_MAX


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("price", [None, -5.0, 0.0, 500.0, np.inf])
def test_a_logarithm_is_numpys_bit_by_bit(price: float | None) -> None:
    """The edges of the bins were learned with it, and many prices lie on one."""
    found = code_numbers(columns(price=price))[LOG_PRICE]
    expected = np.log1p(np.maximum(np.array([price], dtype=np.float64), 0.0))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("image", "has"), [("x.jpg", 1.0), (None, 0.0)])
def test_an_image_is_told(image: str | None, has: float) -> None:
    assert code_numbers(columns(image=image))[HAS_IMAGE].tolist() == [has]
