from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from demand.config import ValidationSettings
from demand.validation.quarantine import (
    QUARANTINE_COLUMNS,
    examples,
    later_duplicates,
    most_frequent,
    quarantine_table,
    write_quarantine,
)
from demand.validation.validate import validate_ads
from tests.ads_factory import make_ads

NONE_UNPARSED = pd.DataFrame(columns=list(QUARANTINE_COLUMNS))


def _table(*findings: tuple[str, str, list[int]]) -> pd.DataFrame:
    ads = make_ads(20)
    return quarantine_table(
        NONE_UNPARSED, [(column, reason, ads.loc[rows]) for column, reason, rows in findings]
    )


def test_findings_lie_in_the_order_of_the_ads() -> None:
    assert _table(("price", "low", [7, 3]), ("title", "long", [5]))["row"].tolist() == [3, 5, 7]


def test_no_text_in_the_file_is_a_formula_and_numbers_stay(tmp_path: Path) -> None:
    ads = make_ads(5)
    ads.loc[0, ["item_id", "title"]] = ["=1+1", "x;=cmd|' /C calc'!A0"]
    ads.loc[1, ["item_id", "price"]] = ["-5", -1.5]
    findings = [("title", "long", ads.loc[[0]]), ("price", "low", ads.loc[[1]])]
    write_quarantine(quarantine_table(NONE_UNPARSED, findings), tmp_path / "q.csv")
    read = pd.read_csv(tmp_path / "q.csv", dtype=str)
    assert read["item_id"].tolist() == ["'=1+1", "'-5"]
    assert read["value"].tolist() == ["x;'=cmd|' /C calc'!A0", "-1.5"]


def test_of_several_findings_in_one_cell_the_first_is_told() -> None:
    table = _table(("title", "missing", [3]), ("title", "long", [3]), ("price", "low", [3]))
    assert table["reason"].tolist() == ["missing", "low"]


def test_only_later_duplicates_are_bad() -> None:
    ids = pd.Series(["a", "b", "a", "b", "a"])
    assert later_duplicates(ids, np.array([4, 3, 2, 1, 0])).tolist() == [2, 3, 4]


def test_most_frequent_reasons_come_first() -> None:
    table = _table(("title", "long", [1]), ("price", "low", [2, 3, 4]))
    assert list(most_frequent(table).items()) == [("price: low", 3), ("title: long", 1)]


def test_examples_show_different_reasons_first() -> None:
    table = _table(("price", "low", [0, 1, 2, 3]), ("title", "long", [9]))
    shown = examples(table, limit=2)
    assert "(row 0)" in shown
    assert "(row 9)" in shown


def test_values_with_commas_quotes_and_line_breaks_survive_the_file(tmp_path: Path) -> None:
    table = _table(("title", "long", [1]))
    table["value"] = 'шкаф, "новый"\nи диван'
    write_quarantine(table, tmp_path / "quarantine.csv")
    read = pd.read_csv(tmp_path / "quarantine.csv")
    assert list(read.columns) == list(QUARANTINE_COLUMNS)
    assert read["value"].tolist() == ['шкаф, "новый"\nи диван']


def test_a_refusal_names_the_copy_that_stays_and_warnings_the_file_alone(tmp_path: Path) -> None:
    made, kept = tmp_path / "made", tmp_path / "kept"
    ads = make_ads(300)
    ads.loc[:2, "price"] = -7.0
    few = validate_ads(ads, NONE_UNPARSED, ValidationSettings(), made, published=kept)
    many = validate_ads(
        ads.assign(price=-7.0), NONE_UNPARSED, ValidationSettings(), made, published=kept
    )
    assert few.warnings[0].endswith("lie in quarantine.csv")
    assert many.refusal is not None
    assert str(kept / "quarantine.csv") in many.refusal
    assert str(made) not in many.refusal + many.warnings[0]
