from __future__ import annotations

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pytest

from demand.errors import DemandError
from demand.expectations.inspection import Inspector

POSITIVE = gxe.ExpectColumnValuesToBeBetween(column="a", min_value=0, meta={"reason": "negative"})


def _frame(rows: int) -> pd.DataFrame:
    values = np.arange(rows, dtype=float)
    values[[1, rows - 1]] = -1.0
    return pd.DataFrame({"a": values, "b": values})


def test_unexpected_rows_are_those_that_fail() -> None:
    inspector = Inspector()
    (outcome,) = inspector.examine(_frame(10), [POSITIVE])
    assert inspector.unexpected_rows(_frame(10), outcome).tolist() == [1, 9]


def test_all_of_very_many_unexpected_rows_are_found() -> None:
    frame = pd.DataFrame({"a": np.full(1000, -1.0)})
    inspector = Inspector()
    (outcome,) = inspector.examine(frame, [POSITIVE])
    assert len(inspector.unexpected_rows(frame, outcome)) == 1000


def test_outcome_says_what_was_noted_at_the_expectation() -> None:
    (outcome,) = Inspector().examine(_frame(10), [POSITIVE])
    assert (outcome.success, outcome.column, outcome.meta["reason"]) == (False, "a", "negative")


@pytest.mark.parametrize("rows", [100, 60_000])
def test_small_and_large_frames_are_judged_alike(rows: int) -> None:
    expectations = [
        POSITIVE,
        gxe.ExpectColumnPairValuesToBeEqual(column_A="a", column_B="b"),
        gxe.ExpectColumnValuesToNotBeNull(column="b"),
        gxe.ExpectTableRowCountToBeBetween(min_value=rows + 1),
    ]
    outcomes = Inspector().examine(_frame(rows), expectations)
    assert {o.expectation: o.success for o in outcomes} == {
        "expect_column_values_to_be_between": False,
        "expect_column_pair_values_to_be_equal": True,
        "expect_column_values_to_not_be_null": True,
        "expect_table_row_count_to_be_between": False,
    }


def test_an_expectation_that_cannot_be_computed_is_an_error_not_a_verdict() -> None:
    absent = gxe.ExpectColumnValuesToNotBeNull(column="absent")
    with pytest.raises(DemandError, match="not_be_null on absent could not be computed"):
        Inspector().examine(_frame(10), [absent])


def test_values_in_results_are_shortened() -> None:
    expectation = gxe.ExpectColumnValueLengthsToBeBetween(column="a", max_value=5)
    inspector = Inspector()
    inspector.examine(pd.DataFrame({"a": ["ы" * 1_000_000]}), [expectation])
    assert len(str(inspector.report("ads").results)) < 10_000


def test_report_counts_the_expectations_of_all_frames() -> None:
    inspector = Inspector()
    inspector.examine(_frame(10), [POSITIVE])
    inspector.examine(_frame(10), [gxe.ExpectColumnValuesToNotBeNull(column="b")])
    statistics = inspector.report("ads").statistics
    assert (statistics["evaluated_expectations"], statistics["successful_expectations"]) == (2, 1)
