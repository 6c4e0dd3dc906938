"""One quiet session of Great Expectations, in memory: frames in, outcomes out.

This module imports Great Expectations (seconds); import it where it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
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
from numpy.typing import NDArray

from demand.errors import DemandError
from demand.quoting import shorten

# Values of failed expectations that Data Docs show.
_EXAMPLES_SHOWN = 10
# For each metric, Great Expectations copies all columns of the frame: with more rows than
# this, that costs more than a batch for each column does (0.05 s).
_ROWS_AT_ONCE_MAX = 50_000


@dataclass(frozen=True)
class Outcome:
    """How one expectation went."""

    result: ExpectationValidationResult

    @property
    def success(self) -> bool:
        """Whether the expectation was met."""
        return bool(self.result.success)

    @property
    def expectation(self) -> str:
        """The expectation's name, as in ``expect_column_to_exist``."""
        return str(self.result.expectation_config.type)

    @property
    def rule(self) -> str:
        """What the expectation is about, for those on tables."""
        return str(self.meta.get("rule", ""))

    @property
    def column(self) -> str:
        """The column that the expectation is about; empty for the table itself."""
        own = self.result.expectation_config.kwargs.get("column", "")
        return str(self.meta.get("column", own))

    @property
    def meta(self) -> dict[str, str]:
        """What :mod:`demand.expectations.suites` noted at the expectation."""
        return dict(self.result.expectation_config.meta or {})

    @property
    def bounds(self) -> dict[str, Any]:
        """The arguments of the expectation, ``min_value`` and others."""
        return dict(self.result.expectation_config.kwargs)

    @property
    def observed(self) -> Any:
        """The observed value of an expectation on a table or column."""
        return self.result.result.get("observed_value")


class Inspector:
    """Examines frames and keeps all results for one page of Data Docs.

    Nothing is written to a disk and nothing is reported to anybody. Each inspector
    has a session of its own, so that several work beside each other.
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
        self._source = context.data_sources.add_pandas("ads")
        self._results: list[ExpectationValidationResult] = []
        self._batches = 0

    def examine(self, frame: pd.DataFrame, expectations: Sequence[Expectation]) -> list[Outcome]:
        """Hold all expectations against ``frame``.

        Raises
        ------
        DemandError
            An expectation could not be computed at all; names it and says why.
        """
        groups = [list(expectations)]
        if len(frame) > _ROWS_AT_ONCE_MAX:
            groups = _by_column(expectations)
        results = []
        for group in groups:
            results += self._validate(
                frame, group, result_format="SUMMARY", partial_unexpected_count=_EXAMPLES_SHOWN
            )
        for result in results:
            result.result = _shortened(result.result)
        self._results += results
        return [Outcome(result) for result in results]

    def unexpected_rows(self, frame: pd.DataFrame, outcome: Outcome) -> NDArray[np.int64]:
        """Return the index of every row that an expectation on rows did not accept.

        Asked one expectation at a time and only for those that failed, since Great
        Expectations holds the rows as lists of Python integers.
        """
        (result,) = self._validate(
            frame,
            [outcome.result.expectation],
            result_format="COMPLETE",
            partial_unexpected_count=0,
            return_unexpected_index_query=False,
        )
        return np.asarray(result.result["unexpected_index_list"], dtype=np.int64)

    def report(self, name: str) -> ExpectationSuiteValidationResult:
        """Return all results so far as those of one suite."""
        met = sum(bool(result.success) for result in self._results)
        total = len(self._results)
        return ExpectationSuiteValidationResult(
            success=met == total,
            results=self._results,
            suite_name=name,
            statistics={
                "evaluated_expectations": total,
                "successful_expectations": met,
                "unsuccessful_expectations": total - met,
                "success_percent": 100.0 * met / max(1, total),
            },
            meta={"great_expectations_version": gx.__version__},
        )

    def _validate(
        self, frame: pd.DataFrame, expectations: Sequence[Expectation], **result_format: object
    ) -> list[ExpectationValidationResult]:
        self._batches += 1
        asset = self._source.add_dataframe_asset(f"frame {self._batches}")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
            {"dataframe": frame[_columns_of(frame, expectations)]}
        )
        suite = gx.ExpectationSuite(name="ads", expectations=list(expectations))
        results = batch.validate(suite, result_format=result_format).results
        self._source.delete_asset(asset.name)
        for result in results:
            _raise_failure(result)
        return list(results)


def _columns_of(frame: pd.DataFrame, expectations: Sequence[Expectation]) -> list[str]:
    """Return the columns that matter: Great Expectations hashes and copies all it is given."""
    named = {name for expectation in expectations for name in _names(expectation)}
    return [name for name in frame.columns if name in named] or list(frame.columns[:1])


def _by_column(expectations: Sequence[Expectation]) -> list[list[Expectation]]:
    """Put expectations on the same columns together, in their order."""
    groups: dict[tuple[str, ...], list[Expectation]] = {}
    for expectation in expectations:
        groups.setdefault(_names(expectation), []).append(expectation)
    return list(groups.values())


def _names(expectation: Expectation) -> tuple[str, ...]:
    kwargs = expectation.configuration.kwargs
    return tuple(kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs)


def _raise_failure(result: ExpectationValidationResult) -> None:
    """Tell an expectation that could not be computed from one that was not met."""
    info = result.exception_info
    failures = [info] if "raised_exception" in info else list(info.values())
    for failure in failures:
        if failure["raised_exception"]:
            raise DemandError(
                f"{result.expectation_config.type} on "
                f"{result.expectation_config.kwargs.get('column', 'the table')} could not be "
                f"computed: {failure['exception_message']}"
            )


def _shortened(value: Any) -> Any:
    """Shorten the texts in a result: a description of 5 MB belongs on no page."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    return shorten(value) if isinstance(value, str) else value
