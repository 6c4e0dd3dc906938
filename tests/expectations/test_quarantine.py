from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from demand.expectations.quarantine import (
    QUARANTINE_COLUMNS,
    Finding,
    empty_quarantine,
    examples,
    later_duplicates,
    most_frequent,
    quarantine_table,
    write_quarantine,
)
from tests.ads_factory import make_ads


def _table(*findings: tuple[str, str, list[int]]) -> pd.DataFrame:
    return quarantine_table(
        make_ads(20),
        empty_quarantine(),
        [Finding(column, reason, np.array(rows)) for column, reason, rows in findings],
    )


def test_findings_lie_in_the_order_of_the_ads() -> None:
    assert _table(("price", "low", [7, 3]), ("title", "long", [5]))["row"].tolist() == [3, 5, 7]


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
