"""What ads must look like, as Great Expectations, and one quiet session that holds them to it.

The ``meta`` of an expectation on rows carries what a person is told when it fails: ``reason``,
and ``column`` where that is not the one it is on.
This module imports Great Expectations (seconds); import it where it is needed.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from great_expectations.core.expectation_validation_result import (
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
)
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.expectation import Expectation
from great_expectations.validator.validation_statistics import calc_validation_statistics
from numpy.typing import NDArray

from demand.config import ValidationSettings
from demand.errors import DemandError
from demand.progress import report
from demand.schema.cells import DTYPES
from demand.schema.columns import COLUMNS, Column
from demand.schema.error_text import shorten
from demand.schema.population import reference
from demand.validation.narrow import PARENT_OF_CATEGORY, UNREADABLE, length_column

# Avito opened in 2007: no ad of its is older.
FIRST_DAY = datetime.datetime(2007, 1, 1)
# Clocks and time zones differ by up to a day.
CLOCK_TOLERANCE = datetime.timedelta(days=1)
# Below this share of distinct ids, ids do not tell ads apart: the table is wrong, not its rows.
DISTINCT_IDS_MIN = 0.5
# A column that the reference has for at least this share of the ads is never wholly absent.
EXPECTED_PRESENT_MIN = 0.5


def schema_expectations(present: Collection[str]) -> list[Expectation]:
    """Every column exists, and the ``present`` ones have the type of their kind."""
    exist = [gxe.ExpectColumnToExist(column=column.name) for column in COLUMNS]
    typed = (column for column in COLUMNS if column.name in present)
    return exist + [
        gxe.ExpectColumnTypeToBe(column=column.name, type_=DTYPES[column.kind].name)
        for column in typed
    ]


def row_expectations(today: datetime.date) -> list[Expectation]:
    """Build what each ad must fulfil; an ad that fails one is a bad row.

    The frame is that of :func:`demand.validation.narrow.narrow_ads`. The order is that of
    importance: of several findings in one cell the first is told.
    """
    required = [column.name for column in COLUMNS if column.required]
    duplicate = "the same item_id as an earlier ad"
    expectations = [
        _row(gxe.ExpectColumnValuesToBeNull, UNREADABLE, "unreadable"),
        *(_row(gxe.ExpectColumnValuesToNotBeNull, name, "missing") for name in required),
        _row(gxe.ExpectColumnValuesToBeUnique, "item_id", duplicate),
        *_hierarchy(),
    ]
    for column in COLUMNS:
        expectations += _text(column) if column.kind == "text" else [_bounds(column, today)]
    return expectations


def _row(kind: type[Expectation], column: str, reason: str, **bounds: object) -> Expectation:
    return kind(column=column, meta={"reason": reason}, **bounds)


def _hierarchy() -> list[Expectation]:
    """Build the value sets, and that a category lies in its own parent."""
    figures = reference()
    sets: dict[str, list[str]] = {
        "region": list(figures.regions),
        "parent_category_name": list(dict.fromkeys(figures.parent_of.values())),
        "category_name": list(figures.parent_of),
        "user_type": list(figures.user_types),
    }
    in_set = gxe.ExpectColumnValuesToBeInSet
    other_parent = "the category lies in another parent category"
    return [
        *(
            _row(in_set, name, f"not one of the {len(values)} known values", value_set=values)
            for name, values in sets.items()
        ),
        # Pairs as a value set would be looked up row by row, 60 s for 1.5 million ads.
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="parent_category_name",
            column_B=PARENT_OF_CATEGORY,
            ignore_row_if="either_value_is_missing",
            meta={"column": "category_name", "reason": other_parent},
        ),
    ]


def _text(column: Column) -> list[Expectation]:
    name, longest = column.name, column.max_length

    def demand(reason: str, **bounds: float | None) -> Expectation:
        meta = {"column": name, "reason": reason}
        return gxe.ExpectColumnValuesToBeBetween(column=length_column(name), meta=meta, **bounds)

    return [
        demand("not a text", min_value=0.0),
        demand(f"longer than {longest:,} characters", max_value=longest),
    ]


def _bounds(column: Column, today: datetime.date) -> Expectation:
    """Build the inclusive range of a number, or of a date: from 2007 until tomorrow."""
    lowest: object = column.minimum
    highest: object = column.maximum
    form = ",.15g"
    if column.kind == "date":
        lowest, form = FIRST_DAY, "%Y-%m-%d"
        highest = datetime.datetime.combine(today, datetime.time()) + CLOCK_TOLERANCE
    reason = f"not between {format(lowest, form)} and {format(highest, form)}"
    between = gxe.ExpectColumnValuesToBeBetween
    return _row(between, column.name, reason, min_value=lowest, max_value=highest)


def table_expectations() -> list[Expectation]:
    """Build what a table of ads must fulfil as a whole, before bad rows are taken out."""
    missing = reference().missing_share
    usual = (c.name for c in COLUMNS if missing.get(c.name, 0.0) < 1.0 - EXPECTED_PRESENT_MIN)
    present = gxe.ExpectColumnProportionOfNonNullValuesToBeBetween
    distinct = gxe.ExpectColumnProportionOfUniqueValuesToBeBetween
    return [
        *(present(column=name, min_value=0.0, strict_min=True) for name in usual),
        distinct(column="item_id", min_value=DISTINCT_IDS_MIN),
    ]


def remaining_rows_expectations(rows: int, settings: ValidationSettings) -> list[Expectation]:
    """Build how many of ``rows`` ads must be left after the bad ones are taken out."""
    # The share is a decimal of the config: 0.05 x 8,000 is 400, whatever binary says.
    bad_max = int(rows * settings.quarantine_share_max + 1e-9)
    left = gxe.ExpectTableRowCountToBeBetween
    return [
        left(min_value=rows - bad_max, meta={"reason": "bad rows"}),
        left(min_value=settings.min_rows, meta={"reason": "few rows"}),
    ]


def drift_expectations(settings: ValidationSettings) -> list[Expectation]:
    """Build what good ads have in common with the reference: missing shares, categories."""
    tolerance = settings.missing_share_tolerance
    present = {name: 1.0 - share for name, share in reference().missing_share.items()}
    return [
        *(
            gxe.ExpectColumnProportionOfNonNullValuesToBeBetween(
                column=name,
                min_value=max(0.0, share - tolerance),
                max_value=min(1.0, share + tolerance),
                severity="warning",
            )
            for name, share in present.items()
        ),
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="category_name", min_value=2, severity="warning"
        ),
    ]


def category_drift_expectations(settings: ValidationSettings) -> list[Expectation]:
    """Build the bounds of :func:`demand.validation.validate.category_drift`.

    They are for a frame of one row with the columns of :func:`drift_column`.
    """
    return [
        gxe.ExpectColumnMaxToBeBetween(
            column=drift_column(name),
            max_value=settings.category_mix_tolerance,
            meta={"column": name},
            severity="warning",
        )
        for name in reference().counts
    ]


def drift_column(name: str) -> str:
    """Return the name of the column that holds the drift of column ``name``."""
    return f"{name}: distance of its mix from the reference"


# Values of failed expectations that Data Docs show.
_EXAMPLES_SHOWN = 10
# For each metric, Great Expectations copies all columns of the frame: with more rows than
# this, that costs more than a batch for each column does (0.05 s).
_ROWS_AT_ONCE_MAX = 50_000


@dataclass(frozen=True)
class Failure:
    """An expectation that was not met."""

    expectation: str  # as in expect_column_to_exist
    column: str  # empty for the table itself
    reason: str  # of those on rows, or of one kind
    bounds: dict[str, Any]  # its arguments, min_value and others
    observed: Any  # of those on tables and columns
    source: Expectation


class Session:
    """Holds expectations against frames, and keeps all results for one page of Data Docs.

    Nothing is written to a disk and nothing is reported to anybody. Sessions know nothing
    of each other, so that several work at once.
    """

    def __init__(self) -> None:
        context = gx.get_context(
            mode="ephemeral",
            project_config=DataContextConfig(
                analytics_enabled=False,
                progress_bars=ProgressBarsConfig(globally=False),
                store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            ),
        )
        self._source = context.data_sources.pandas_default
        self._results: list[ExpectationValidationResult] = []

    def failures(self, frame: pd.DataFrame, expectations: Sequence[Expectation]) -> list[Failure]:
        """Hold all expectations against ``frame``; return those that are not met.

        Of a large frame, the step that runs shows how far it is.

        Raises
        ------
        DemandError
            An expectation could not be computed at all; names it and says why.
        """
        groups: dict[tuple[str, ...], list[Expectation]] = {}
        for expectation in expectations:
            columns = _columns(expectation) if len(frame) > _ROWS_AT_ONCE_MAX else ()
            groups.setdefault(columns, []).append(expectation)
        failures = []
        for number, group in enumerate(groups.values(), start=1):
            results = self._validate(
                frame, group, result_format="SUMMARY", partial_unexpected_count=_EXAMPLES_SHOWN
            )
            for result in results:
                result.result = _shortened(result.result)
            self._results += results
            failures += [_failure(result) for result in results if not result.success]
            if len(groups) > 1:
                report(number, len(groups))
        return failures

    def unexpected_rows(self, frame: pd.DataFrame, failure: Failure) -> NDArray[np.int64]:
        """Return the index of every row that an expectation on rows did not accept.

        Asked one expectation at a time and only for those that failed, since Great
        Expectations holds the rows as lists of Python integers.
        """
        (result,) = self._validate(
            frame,
            [failure.source],
            result_format="COMPLETE",
            partial_unexpected_count=0,
            return_unexpected_index_query=False,
        )
        return np.asarray(result.result["unexpected_index_list"], dtype=np.int64)

    def results(self) -> ExpectationSuiteValidationResult:
        """Return all results so far as those of one suite."""
        statistics = calc_validation_statistics(self._results)._asdict()
        return ExpectationSuiteValidationResult(
            success=statistics.pop("success"),
            results=self._results,
            suite_name="ads",
            statistics=statistics,
            meta={"great_expectations_version": gx.__version__},
        )

    def _validate(
        self, frame: pd.DataFrame, expectations: Sequence[Expectation], **result_format: object
    ) -> list[ExpectationValidationResult]:
        # Great Expectations hashes and copies all columns it is given.
        named = {name for expectation in expectations for name in _columns(expectation)}
        batch = self._source.read_dataframe(frame[[name for name in frame if name in named]])
        suite = gx.ExpectationSuite(name="ads", expectations=list(expectations))
        results = batch.validate(suite, result_format=result_format).results
        for result in results:
            info, config = result.exception_info, result.expectation_config
            for failure in [info] if "raised_exception" in info else info.values():
                if failure["raised_exception"]:
                    raise DemandError(
                        f"{config.type} on {config.kwargs.get('column', 'the table')} could not "
                        f"be computed: {failure['exception_message']}"
                    )
        return list(results)


def _columns(expectation: Expectation) -> tuple[str, ...]:
    keys = ("column", "column_A", "column_B")
    return tuple(getattr(expectation, key) for key in keys if hasattr(expectation, key))


def _failure(result: ExpectationValidationResult) -> Failure:
    config = result.expectation_config
    meta, bounds = dict(config.meta or {}), dict(config.kwargs)
    return Failure(
        expectation=str(config.type),
        column=str(meta.get("column", bounds.get("column", ""))),
        reason=meta.get("reason", ""),
        bounds=bounds,
        observed=result.result.get("observed_value"),
        source=result.expectation,
    )


def _shortened(value: Any) -> Any:
    """Shorten the texts in a result: a description of 5 MB belongs on no page."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    return shorten(value) if isinstance(value, str) else value
