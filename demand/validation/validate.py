"""Ads are held against what is expected: bad rows go to quarantine, bad tables are refused."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.config import ValidationSettings
from demand.schema.error_text import quote
from demand.schema.population import reference
from demand.validation.quarantine import (
    QUARANTINE_FILE,
    examples,
    later_duplicates,
    most_frequent,
    quarantine_table,
    write_quarantine,
)

if TYPE_CHECKING:
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
    )

    from demand.validation.suites import Failure, Session


_MESSAGES_MAX = 3


@dataclass(frozen=True)
class Validation:
    """What the validation of a table of ads found.

    A ``refusal``, which is None where the table is accepted, names the expectation, what was
    observed, and ads that show it.
    """

    accepted: pd.DataFrame  # the good rows with the index 0 … n-1; all columns of the frame
    quarantine: pd.DataFrame  # see demand.validation.quarantine.quarantine_table
    warnings: tuple[str, ...]  # a line each: rows in quarantine, differences from the reference
    refusal: str | None
    results: ExpectationSuiteValidationResult  # of all expectations
    summary: dict[str, Any]  # figures for metrics and metadata; JSON-able


def validate_ads(
    frame: pd.DataFrame,
    unparsed: pd.DataFrame,
    settings: ValidationSettings,
    reports: Path,
    *,
    lines: NDArray[np.int64] | None = None,
    published: Path | None = None,
) -> Validation:
    """Divide ads into good and bad rows, or refuse them all.

    Parameters
    ----------
    frame, unparsed, lines
        As :class:`demand.data.reading.LoadedAds` has them.
    reports
        Folder that gets ``quarantine.csv``.
    published
        Folder to which the caller copies the reports, and that a refusal names. Warnings,
        which outlive the copy, then name the file alone. None where ``reports`` is kept.

    Raises
    ------
    StateError
        The quarantine cannot be written.
    DemandError
        An expectation could not be computed.
    """
    # Progress is the pipeline's to show; of the rest only errors concern a user.
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    # Great Expectations takes seconds to import, which no other command should wait for.
    from demand.validation import suites

    ads, session = frame.reset_index(drop=True), suites.Session()
    accepted, quarantine = ads.iloc[:0], quarantine_table(ads, unparsed.iloc[:0])
    warnings: list[str] = []
    # Names and types are those of a frame without rows; looking at fewer costs less.
    failures = session.failures(accepted, suites.schema_expectations(ads.columns))
    refusal = _joined([_schema_message(failure, ads) for failure in failures])
    if refusal is None:
        quarantine = quarantine_table(ads, unparsed, _bad_rows(session, ads, unparsed), lines)
        accepted = ads[~ads.index.isin(quarantine["row"])].reset_index(drop=True)
        told = (published or reports) / QUARANTINE_FILE
        refusal = _refuse_table(session, ads, accepted, quarantine, settings, told)
    if refusal is None:
        failures = session.failures(accepted, suites.drift_expectations(settings))
        distances = {suites.drift_column(n): [d] for n, d in category_drift(accepted).items()}
        expectations = suites.category_drift_expectations(settings)
        failures += session.failures(pd.DataFrame(distances), expectations)
        warnings = [_drift_message(failure, accepted, settings) for failure in failures]
        if warnings and settings.on_drift == "stop":
            refusal = (
                "validation.on_drift is 'stop' and the ads differ from the reference: "
                f"{_joined(warnings)}"
            )
    write_quarantine(quarantine, reports / QUARANTINE_FILE)
    results = session.results()
    summary = _summarise(results, ads, accepted, quarantine)
    if bad := summary["rows_quarantined"]:
        named = reports / QUARANTINE_FILE if published is None else QUARANTINE_FILE
        warnings.insert(0, f"{bad:,} of {len(ads):,} ads are bad rows and lie in {named}")
    return Validation(accepted, quarantine, tuple(warnings), refusal, results, summary)


def _bad_rows(
    session: Session, ads: pd.DataFrame, unparsed: pd.DataFrame
) -> list[tuple[str, str, NDArray[np.int64]]]:
    """Return column, reason and rows of each expectation on rows that was not met."""
    from demand.validation import suites

    checked = ads.copy(deep=False)
    checked[suites.UNREADABLE] = pd.Series(None, index=ads.index, dtype=object)
    checked.loc[unparsed["row"].to_numpy(dtype=np.int64), suites.UNREADABLE] = "yes"
    # Missing where either is unknown, which is a finding of its own and not told twice.
    parent_of = reference().parent_of
    known = ads["parent_category_name"].isin(list(parent_of.values()))
    parents = ads["category_name"].map(parent_of).where(known, None)
    checked[suites.PARENT_OF_CATEGORY] = parents.astype(object)
    findings = []
    for failure in session.failures(checked, suites.row_expectations(datetime.date.today())):
        if failure.column == suites.UNREADABLE:
            continue  # ``unparsed`` says more
        rows = session.unexpected_rows(checked, failure)
        if failure.expectation == "expect_column_values_to_be_unique":
            rows = later_duplicates(ads["item_id"], rows)
        findings.append((failure.column, failure.reason, rows))
    return findings


def _refuse_table(
    session: Session,
    ads: pd.DataFrame,
    accepted: pd.DataFrame,
    quarantine: pd.DataFrame,
    settings: ValidationSettings,
    path: Path,
) -> str | None:
    from demand.validation import suites

    messages = []
    # Of a few ads, all may lack the same value by chance; being few is what is wrong then.
    if len(ads) >= settings.min_rows:
        failures = session.failures(ads, suites.table_expectations())
        messages = [_table_message(failure, ads, quarantine) for failure in failures]
    failures = session.failures(accepted, suites.remaining_rows_expectations(len(ads), settings))
    return _joined(
        messages or [_rows_message(f, ads, quarantine, settings, path) for f in failures]
    )


def _summarise(
    results: ExpectationSuiteValidationResult,
    ads: pd.DataFrame,
    accepted: pd.DataFrame,
    quarantine: pd.DataFrame,
) -> dict[str, Any]:
    bad = int(quarantine["row"].nunique())
    return {
        "rows": len(ads),
        "rows_accepted": len(accepted),
        "rows_quarantined": bad,
        "quarantine_share": bad / max(1, len(ads)),
        "quarantine_reasons": most_frequent(quarantine, 20),
        "expectations": results.statistics["evaluated_expectations"],
        "expectations_failed": results.statistics["unsuccessful_expectations"],
        "missing_share": {n: float(s) for n, s in accepted.isna().mean().items() if s == s},
        "mix_distance": category_drift(accepted) if len(accepted) else {},
    }


def _joined(messages: Sequence[str]) -> str | None:
    """Return the first messages as one line, or None without any."""
    if not messages:
        return None
    more = len(messages) - _MESSAGES_MAX
    return "; ".join(messages[:_MESSAGES_MAX]) + (f"; and {more} more" if more > 0 else "")


def _schema_message(failure: Failure, frame: pd.DataFrame) -> str:
    """Say that a column is not there or holds another type, with values that show it."""
    if failure.expectation == "expect_column_to_exist":
        found = ", ".join(map(str, frame.columns[:20])) or "none"
        what = f"is missing; columns found: {found}"
    else:
        values = ", ".join(repr(quote(v)) for v in frame[failure.column].dropna().head(3))
        what = (
            f"holds {failure.observed}, expected is {failure.bounds['type_']}; "
            f"first values: {values or 'none'}"
        )
    return f"{failure.expectation}: the column {failure.column!r} {what}"


def _table_message(failure: Failure, frame: pd.DataFrame, quarantine: pd.DataFrame) -> str:
    """Say that a column is empty, or that ids do not tell the ads apart."""
    if "non_null" in failure.expectation:
        what = (
            f"the column {failure.column!r} is 100 % missing: none of the {len(frame):,} ads "
            "has a readable value"
        )
    else:
        what = (
            f"{failure.observed:.1%} of the values of {failure.column!r} are distinct, "
            f"at least {failure.bounds['min_value']:.0%} are expected"
        )
    shown = examples(quarantine[quarantine["column"] == failure.column]) or _first_ads(frame)
    return f"{failure.expectation}: {what}; for example {shown}"


def _rows_message(
    failure: Failure,
    frame: pd.DataFrame,
    quarantine: pd.DataFrame,
    settings: ValidationSettings,
    path: Path,
) -> str:
    """Say that too many of the ads are bad, or that too few are good."""
    good, rows = int(failure.observed), len(frame)
    if failure.reason == "bad rows":
        reasons = "; ".join(f"{r} ({n:,})" for r, n in most_frequent(quarantine, 3).items())
        what = (
            f"{rows - good:,} of {rows:,} ads ({(rows - good) / rows:.1%}) are bad rows, at most "
            f"{settings.quarantine_share_max:.1%} may be (validation.quarantine_share_max); "
            f"most frequent: {reasons}"
        )
    else:
        what = (
            f"{good:,} of {rows:,} ads {'is' if good == 1 else 'are'} good, at least "
            f"{settings.min_rows:,} are needed (validation.min_rows)"
        )
    shown = examples(quarantine) or _first_ads(frame)
    where = f"; all bad rows are in {path}" if len(quarantine) else ""
    return f"{failure.expectation}: {what}; for example {shown}{where}"


def _drift_message(failure: Failure, ads: pd.DataFrame, settings: ValidationSettings) -> str:
    """Say how good ads differ from the reference."""
    column, observed = failure.column, float(failure.observed)
    if "non_null" in failure.expectation:
        what = (
            f"{column} is missing in {1.0 - observed:.1%} of the {len(ads):,} ads and in "
            f"{reference().missing_share[column]:.1%} of the reference, "
            f"{settings.missing_share_tolerance:.1%} of difference are tolerated"
        )
    elif "unique" in failure.expectation:
        what = (
            f"all {len(ads):,} ads are of one category, {ads[column].iloc[0]!r}: "
            "a model of them knows nothing of the others"
        )
    else:
        shares = compare_shares(ads[column], reference().counts[column]).head(3)
        furthest = "; ".join(
            f"{row.Index} {row.observed:.1%} instead of {row.expected:.1%}"
            for row in shares.itertuples()
        )
        what = (
            f"the mix of {column} is {observed:.3f} away from the reference (total variation "
            f"distance), {settings.category_mix_tolerance:.3f} are tolerated: {furthest}"
        )
    return f"drift: {what} ({failure.expectation})"


def _first_ads(frame: pd.DataFrame) -> str:
    titles = frame[["item_id", "title"]].head(3).itertuples(index=False)
    return (
        "; ".join(f"ad {quote(item)!r}: title = {quote(title)!r}" for item, title in titles)
        or "none: there are no ads"
    )


def category_drift(ads: pd.DataFrame) -> dict[str, float]:
    """Return :func:`total_variation` from the reference of each column compared."""
    return {name: total_variation(ads[name], n) for name, n in reference().counts.items()}


def compare_shares(values: pd.Series[str], expected: Mapping[str, int]) -> pd.DataFrame:
    """Return the share of each value beside the expected one.

    Of n values, one an ad, missing ones are left out; ``expected`` has the reference's count of
    each. The frame's columns ``observed`` and ``expected`` are shares in [0, 1], indexed by the
    values of both, those that are furthest apart first.
    """
    observed = values.value_counts(normalize=True).rename("observed")
    reference = pd.Series(expected, dtype=float).rename("expected")
    shares = pd.concat([observed, reference / reference.sum()], axis=1).fillna(0.0)
    distance = (shares["observed"] - shares["expected"]).abs()
    return shares.loc[distance.sort_values(ascending=False, kind="stable").index]


def total_variation(values: pd.Series[str], expected: Mapping[str, int]) -> float:
    """Return the total variation distance from the expected shares, in [0, 1].

    Half the sum over all values of ``|observed share - expected share|``: the share of
    the ads that would have to have another value for the shares to be equal. 1 where
    there are no values at all.
    """
    if values.isna().all():
        return 1.0
    shares = compare_shares(values, expected)
    return float((shares["observed"] - shares["expected"]).abs().sum() / 2.0)
