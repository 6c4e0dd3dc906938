from __future__ import annotations

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pytest

from demand.errors import DemandError
from demand.validation.suites import Session

POSITIVE = gxe.ExpectColumnValuesToBeBetween(column="a", min_value=0, meta={"reason": "negative"})


def _frame(rows: int) -> pd.DataFrame:
    values = np.arange(rows, dtype=float)
    values[[1, rows - 1]] = -1.0
    return pd.DataFrame({"a": values, "b": values})


def test_unexpected_rows_are_those_that_fail() -> None:
    session = Session()
    (failure,) = session.failures(_frame(10), [POSITIVE])
    assert session.unexpected_rows(_frame(10), failure).tolist() == [1, 9]


def test_all_of_very_many_unexpected_rows_are_found() -> None:
    frame = pd.DataFrame({"a": np.full(1000, -1.0)})
    session = Session()
    (failure,) = session.failures(frame, [POSITIVE])
    assert len(session.unexpected_rows(frame, failure)) == 1000


def test_a_failure_says_what_was_noted_at_the_expectation() -> None:
    (failure,) = Session().failures(_frame(10), [POSITIVE])
    assert (failure.column, failure.reason) == ("a", "negative")


@pytest.mark.parametrize("rows", [100, 60_000])
def test_small_and_large_frames_are_judged_alike(rows: int) -> None:
    expectations = [
        POSITIVE,
        gxe.ExpectColumnPairValuesToBeEqual(column_A="a", column_B="b"),
        gxe.ExpectColumnValuesToNotBeNull(column="b"),
        gxe.ExpectTableRowCountToBeBetween(min_value=rows + 1),
    ]
    assert [f.expectation for f in Session().failures(_frame(rows), expectations)] == [
        "expect_column_values_to_be_between",
        "expect_table_row_count_to_be_between",
    ]


def test_an_expectation_that_cannot_be_computed_is_an_error_not_a_verdict() -> None:
    absent = gxe.ExpectColumnValuesToNotBeNull(column="absent")
    with pytest.raises(DemandError, match="not_be_null on absent could not be computed"):
        Session().failures(_frame(10), [absent])


def test_values_in_results_are_shortened() -> None:
    expectation = gxe.ExpectColumnValueLengthsToBeBetween(column="a", max_value=5)
    session = Session()
    session.failures(pd.DataFrame({"a": ["ы" * 1_000_000]}), [expectation])
    assert len(str(session.results().results)) < 10_000


def test_report_counts_the_expectations_of_all_frames() -> None:
    session = Session()
    session.failures(_frame(10), [POSITIVE])
    session.failures(_frame(10), [gxe.ExpectColumnValuesToNotBeNull(column="b")])
    statistics = session.results().statistics
    assert (statistics["evaluated_expectations"], statistics["successful_expectations"]) == (2, 1)
