"""Ads are held against what is expected: bad rows go to quarantine, bad tables are refused."""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.config import ValidationSettings
from demand.expectations.mix import mix_distances
from demand.expectations.quarantine import (
    Finding,
    empty_quarantine,
    later_duplicates,
    most_frequent,
    quarantine_table,
    unreadable_findings,
    write_quarantine,
)
from demand.expectations.verdicts import (
    drift_warnings,
    join_messages,
    remaining_refusals,
    schema_refusals,
    table_refusals,
)
from demand.reference import reference

if TYPE_CHECKING:
    from demand.expectations.inspection import Inspector


@dataclass(frozen=True)
class Validation:
    """What the validation of a table of ads found.

    Parameters
    ----------
    accepted
        The good rows with the index 0 … n-1; all columns of the frame.
    quarantine
        One row for each finding in a bad row: ``row`` (position in the frame, from 0),
        ``line`` (of the file, where known), ``item_id``, ``column``, ``value``, ``reason``.
    warnings
        One line each: rows in quarantine, differences from the reference.
    refusal
        Why the table is refused, or None: names the expectation, what was observed,
        and ads that show it.
    docs_html
        The Data Docs, one page that needs nothing from other hosts.
    summary
        Figures for metrics and metadata; JSON-able.
    """

    accepted: pd.DataFrame
    quarantine: pd.DataFrame
    warnings: tuple[str, ...]
    refusal: str | None
    docs_html: Path
    summary: dict[str, object]


def validate_ads(
    frame: pd.DataFrame,
    unparsed: pd.DataFrame,
    settings: ValidationSettings,
    reports: Path,
    *,
    lines: NDArray[np.int64] | None = None,
) -> Validation:
    """Divide ads into good and bad rows, or refuse them all.

    Parameters
    ----------
    frame
        Typed ads: text as object (str or None), numbers and integers float64, dates
        datetime64[ns].
    unparsed
        Cells of ``frame`` that could not be read: ``row`` (position), ``line``,
        ``item_id``, ``column``, ``value``, ``reason``.
    settings
        Tolerances, and whether drift warns or stops.
    reports
        Folder that gets ``quarantine.csv`` and ``data_docs/index.html``.
    lines
        The line of the file in which each ad begins, shape (rows,); None where the file
        has no lines.

    Raises
    ------
    StateError
        The reports cannot be written.
    DemandError
        An expectation could not be computed.
    """
    # Progress is the pipeline's to show; of the rest only errors concern a user.
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    # Great Expectations takes seconds to import, which no other command should wait for.
    from demand.expectations.inspection import Inspector

    ads = frame.reset_index(drop=True)
    inspector = Inspector()
    path = reports / "quarantine.csv"
    accepted, quarantine = ads.iloc[:0], empty_quarantine()
    warnings: list[str] = []
    refusal = _refuse_schema(inspector, ads)
    if refusal is None:
        quarantine = _find_bad_rows(inspector, ads, unparsed, lines)
        accepted = ads[~ads.index.isin(quarantine["row"])].reset_index(drop=True)
        refusal = _refuse_table(inspector, ads, accepted, quarantine, settings, path)
    if refusal is None:
        warnings = _find_drift(inspector, accepted, settings)
        if warnings and settings.on_drift == "stop":
            told = join_messages(warnings)
            refusal = f"validation.on_drift is 'stop' and the ads differ from the reference: {told}"
    write_quarantine(quarantine, path)
    summary = _summarise(inspector, ads, accepted, quarantine)
    if len(quarantine):
        warnings.insert(0, _tell_quarantine(summary, path))
    docs = _write_docs(inspector, refusal, warnings, summary, reports / "data_docs")
    return Validation(accepted, quarantine, tuple(warnings), refusal, docs, summary)


def _refuse_schema(inspector: Inspector, ads: pd.DataFrame) -> str | None:
    from demand.expectations.suites import schema_expectations

    # Names and types are those of a frame without rows; looking at fewer costs less.
    outcomes = inspector.examine(ads.iloc[:0], schema_expectations(ads.columns))
    return join_messages(schema_refusals(outcomes, ads))


def _find_bad_rows(
    inspector: Inspector,
    ads: pd.DataFrame,
    unparsed: pd.DataFrame,
    lines: NDArray[np.int64] | None,
) -> pd.DataFrame:
    """Return the findings of the expectations on rows; see :func:`quarantine_table`."""
    from demand.expectations.suites import PARENT_OF_CATEGORY, UNREADABLE, row_expectations

    checked = ads.copy(deep=False)
    checked[UNREADABLE] = pd.Series(None, index=ads.index, dtype=object)
    checked.loc[unparsed["row"].to_numpy(dtype=np.int64), UNREADABLE] = "yes"
    checked[PARENT_OF_CATEGORY] = _parents(ads)
    unreadable = unreadable_findings(unparsed, np.empty(0, dtype=np.int64))
    findings = []
    for outcome in inspector.examine(checked, row_expectations(datetime.date.today())):
        if outcome.success:
            continue
        rows = inspector.unexpected_rows(checked, outcome)
        if outcome.column == UNREADABLE:
            unreadable = unreadable_findings(unparsed, rows)
            continue
        if outcome.expectation == "expect_column_values_to_be_unique":
            rows = later_duplicates(ads["item_id"], rows)
        findings.append(Finding(outcome.column, outcome.meta["reason"], rows))
    return quarantine_table(ads, unreadable, findings, lines)


def _parents(ads: pd.DataFrame) -> pd.Series[Any]:
    """Return the parent in which each ad's category lies; missing where either is unknown.

    An unknown value is a finding of its own and should not be told twice.
    """
    parent_of = reference().parent_of
    parents = ads["category_name"].map(parent_of)
    known = ads["parent_category_name"].isin(list(parent_of.values()))
    return parents.where(known, None).astype(object)


def _refuse_table(
    inspector: Inspector,
    ads: pd.DataFrame,
    accepted: pd.DataFrame,
    quarantine: pd.DataFrame,
    settings: ValidationSettings,
    path: Path,
) -> str | None:
    from demand.expectations.suites import remaining_rows_expectations, table_expectations

    messages = []
    # Of a few ads, all may lack the same value by chance; being few is what is wrong then.
    if len(ads) >= settings.min_rows:
        outcomes = inspector.examine(ads, table_expectations())
        messages = table_refusals(outcomes, ads, quarantine)
    outcomes = inspector.examine(accepted, remaining_rows_expectations(len(ads), settings))
    if not messages:
        messages = remaining_refusals(outcomes, ads, quarantine, settings, path)
    return join_messages(messages)


def _find_drift(
    inspector: Inspector, accepted: pd.DataFrame, settings: ValidationSettings
) -> list[str]:
    from demand.expectations.suites import drift_expectations, mix_column, mix_expectations

    distances = {mix_column(n): [d] for n, d in mix_distances(accepted).items()}
    outcomes = inspector.examine(accepted, drift_expectations(settings))
    outcomes += inspector.examine(pd.DataFrame(distances), mix_expectations(settings))
    return drift_warnings(outcomes, accepted, settings)


def _summarise(
    inspector: Inspector, ads: pd.DataFrame, accepted: pd.DataFrame, quarantine: pd.DataFrame
) -> dict[str, object]:
    bad = int(quarantine["row"].nunique())
    statistics = inspector.report("ads").statistics
    return {
        "rows": len(ads),
        "rows_accepted": len(accepted),
        "rows_quarantined": bad,
        "quarantine_share": bad / max(1, len(ads)),
        "quarantine_reasons": most_frequent(quarantine, 20),
        "expectations": statistics["evaluated_expectations"],
        "expectations_failed": statistics["unsuccessful_expectations"],
        "missing_share": {n: float(s) for n, s in accepted.isna().mean().items() if s == s},
        "mix_distance": mix_distances(accepted) if len(accepted) else {},
    }


def _tell_quarantine(summary: dict[str, object], path: Path) -> str:
    return (
        f"{summary['rows_quarantined']:,} of {summary['rows']:,} ads are bad rows and lie in {path}"
    )


def _write_docs(
    inspector: Inspector,
    refusal: str | None,
    warnings: list[str],
    summary: dict[str, object],
    folder: Path,
) -> Path:
    from demand.expectations.data_docs import Verdict, write_data_docs

    figures = {
        "Ads": f"{summary['rows']:,}",
        "Good rows": f"{summary['rows_accepted']:,}",
        "Bad rows": f"{summary['rows_quarantined']:,} ({summary['quarantine_share']:.2%})",
        "Expectations": f"{summary['expectations']}, {summary['expectations_failed']} not met",
    }
    reasons = summary["quarantine_reasons"]
    if isinstance(reasons, dict):
        figures |= {f"Bad: {reason}": f"{count:,}" for reason, count in reasons.items()}
    return write_data_docs(inspector.report("ads"), Verdict(refusal, warnings, figures), folder)
