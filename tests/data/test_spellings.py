"""Spellings of a missing value and of a category, in the cells of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from demand.data.reading import read_ads
from demand.schema.columns import COLUMNS, Column
from tests.data.files import AD, ad, as_parquet_of_text, csv_text, write


@pytest.mark.parametrize("word", ["NA", "null", "NaN", "None", "nan", "0", "-"])
def test_words_that_stand_for_missing_elsewhere_are_text_in_a_title(
    tmp_path: Path, word: str
) -> None:
    assert read_ads(write(tmp_path, csv_text([ad(title=word)]))).frame.loc[0, "title"] == word


SPELLINGS = [
    "\\N",
    "NULL",
    "null",
    "None",
    "NaN",
    "nan",
    "NA",
    "N/A",
    "#N/A",
    "<NA>",
    "(null)",
    " NULL ",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("wrap", [lambda path: path, as_parquet_of_text])
def test_a_missing_value_may_be_spelled_out_in_any_optional_column(
    tmp_path: Path, spelling: str, wrap: Callable[[Path], Path]
) -> None:
    optional = [c.name for c in COLUMNS if not c.verbatim]
    empty, spelled = (ad(**dict.fromkeys(optional, cell)) for cell in ("", spelling))
    loaded = read_ads(wrap(write(tmp_path, csv_text([empty, spelled]))))
    assert loaded.unparsed.empty
    assert loaded.frame[optional].isna().all(axis=None)
    assert loaded.frame["title"].tolist() == [AD["title"]] * 2


@pytest.mark.parametrize("column", ["title", "item_id"])
def test_a_null_of_a_database_is_no_title(tmp_path: Path, column: str) -> None:
    frame = read_ads(write(tmp_path, csv_text([ad(**{column: "\\N"})]))).frame
    assert frame.loc[0, column] is None


def test_a_word_within_a_text_is_no_missing_value(tmp_path: Path) -> None:
    changes = {"description": "NULL и NaN", "param_1": "Null Elf", "city": "Nanterre"}
    frame = read_ads(write(tmp_path, csv_text([ad(**changes)]))).frame
    assert frame.loc[0, list(changes)].to_dict() == changes


SPACED = [
    "Детская\u00a0одежда и обувь",
    "Детская\u202fодежда\u2009и\u3000обувь",
    "Детская  одежда\tи\nобувь",
    " \ufeffДетская одежда и обувь\u00a0 ",
    "Дет\u00adская одежда\u200b и\u2060 обувь\u200e",
]


@pytest.mark.parametrize("spaced", SPACED)
@pytest.mark.parametrize("column", [c for c in COLUMNS if c.category], ids=lambda c: c.name)
def test_a_category_is_the_same_however_it_is_spaced(
    tmp_path: Path, column: Column, spaced: str
) -> None:
    frame = read_ads(write(tmp_path, csv_text([ad(**{column.name: spaced})]))).frame
    assert frame.loc[0, column.name] == "Детская одежда и обувь"


def test_a_category_is_composed_and_its_hyphens_may_break(tmp_path: Path) -> None:
    content = csv_text([ad(city="Йошкар\u2011Ола", region="И\u0306")])
    frame = read_ads(write(tmp_path, content)).frame
    assert frame.loc[0, ["city", "region"]].tolist() == ["Йошкар-Ола", "Й"]
