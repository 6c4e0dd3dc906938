"""Ads are held against what is expected: bad rows go to quarantine, bad tables are refused."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from demand.config import ValidationSettings
from demand.progress import blocks_shown
from demand.schema.arrays import Rows
from demand.schema.error_text import quote
from demand.schema.population import reference
from demand.validation.narrow import UNREADABLE, narrow_ads
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

    from demand.data.typed import TypedAds
    from demand.validation.suites import Failure, Session


_MESSAGES_MAX = 3


@dataclass(frozen=True)
class Validation:
    """What the validation of a table of ads found.

    A ``refusal``, which is None where the table is accepted, names the expectation, what was
    observed, and ads that show it.
    """

    accepted: Rows  # numbers of the good rows, ascending
    quarantine: pd.DataFrame  # see demand.validation.quarantine.quarantine_table
    warnings: tuple[str, ...]  # a line each: rows in quarantine, differences from the reference
    refusal: str | None
    results: ExpectationSuiteValidationResult  # of all expectations
    summary: dict[str, Any]  # figures for metrics and metadata; JSON-able


def validate_ads(
    ads: TypedAds | pd.DataFrame,
    unparsed: pd.DataFrame,
    settings: ValidationSettings,
    reports: Path,
    *,
    lines: Rows | None = None,
    published: Path | None = None,
) -> Validation:
    """Divide ads into good and bad rows, or refuse them all.

    Parameters
    ----------
    ads
        All of a file, or any frame that has yet to prove to be of typed ads.
    unparsed, lines
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

    session, warnings = suites.Session(), list[str]()
    source = _Frame(ads) if isinstance(ads, pd.DataFrame) else ads
    accepted, quarantine = np.arange(0), quarantine_table(unparsed.iloc[:0])
    # Names and types are those of a frame without rows; looking at fewer costs less.
    good = source.frame(accepted)
    failures = session.failures(good, suites.schema_expectations(source.columns))
    refusal = _joined([_schema_message(failure, source) for failure in failures])
    if refusal is None:
        unreadable = unparsed["row"].to_numpy(dtype=np.int64)
        narrow = narrow_ads(blocks_shown(source.blocks(), source.rows), unreadable)
        quarantine = quarantine_table(unparsed, _bad_rows(session, source, narrow), lines)
        accepted = np.setdiff1d(np.arange(source.rows), quarantine["row"])
        good = narrow.iloc[accepted]
        told = (published or reports) / QUARANTINE_FILE
        first = _first_ads(source)
        refusal = _refuse_table(session, narrow, good, quarantine, settings, told, first)
    if refusal is None:
        failures = session.failures(good, suites.drift_expectations(settings))
        distances = {suites.drift_column(n): [d] for n, d in category_drift(good).items()}
        expectations = suites.category_drift_expectations(settings)
        failures += session.failures(pd.DataFrame(distances), expectations)
        warnings = [_drift_message(failure, good, settings) for failure in failures]
        if warnings and settings.on_drift == "stop":
            refusal = (
                "validation.on_drift is 'stop' and the ads differ from the reference: "
                f"{_joined(warnings)}"
            )
    write_quarantine(quarantine, reports / QUARANTINE_FILE)
    results = session.results()
    summary = _summarise(results, source, good, quarantine)
    if bad := summary["rows_quarantined"]:
        named = reports / QUARANTINE_FILE if published is None else QUARANTINE_FILE
        warnings.insert(0, f"{bad:,} of {source.rows:,} ads are bad rows and lie in {named}")
    return Validation(accepted, quarantine, tuple(warnings), refusal, results, summary)


class _Frame:
    """A frame, whatever its types, that is read as :class:`demand.data.typed.TypedAds` is."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame, self.rows, self.columns = frame, len(frame), tuple(frame.columns)

    def blocks(self) -> Iterator[pd.DataFrame]:
        yield self._frame

    def frame(self, rows: Rows, columns: Sequence[str] | None = None) -> pd.DataFrame:
        return self._frame[list(columns or self.columns)].iloc[rows]


def _bad_rows(
    session: Session, ads: TypedAds | _Frame, narrow: pd.DataFrame
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield column, reason and ads of each expectation on rows that was not met."""
    from demand.validation import suites

    for failure in session.failures(narrow, suites.row_expectations(datetime.date.today())):
        if failure.column == UNREADABLE:
            continue  # ``unparsed`` says more
        rows = session.unexpected_rows(narrow, failure)
        if failure.expectation == "expect_column_values_to_be_unique":
            rows = later_duplicates(narrow["item_id"], rows)
        cells = ads.frame(rows, list(dict.fromkeys(["item_id", failure.column])))
        yield failure.column, failure.reason, cells.set_axis(rows)


def _refuse_table(
    session: Session,
    narrow: pd.DataFrame,
    good: pd.DataFrame,
    quarantine: pd.DataFrame,
    settings: ValidationSettings,
    path: Path,
    first: str,
) -> str | None:
    """Return why the table is refused; ``first`` shows its first ads."""
    from demand.validation import suites

    messages, rows = [], len(narrow)
    # Of a few ads, all may lack the same value by chance; being few is what is wrong then.
    if rows >= settings.min_rows:
        failures = session.failures(narrow, suites.table_expectations())
        messages = [_table_message(failure, rows, quarantine, first) for failure in failures]
    failures = session.failures(good, suites.remaining_rows_expectations(rows, settings))
    return _joined(
        messages or [_rows_message(f, rows, quarantine, settings, path, first) for f in failures]
    )


def _summarise(
    results: ExpectationSuiteValidationResult,
    ads: TypedAds | _Frame,
    good: pd.DataFrame,
    quarantine: pd.DataFrame,
) -> dict[str, Any]:
    bad = int(quarantine["row"].nunique())
    missing = good[list(ads.columns)].isna().mean()
    return {
        "rows": ads.rows,
        "rows_accepted": len(good),
        "rows_quarantined": bad,
        "quarantine_share": bad / max(1, ads.rows),
        "quarantine_reasons": most_frequent(quarantine, 20),
        "expectations": results.statistics["evaluated_expectations"],
        "expectations_failed": results.statistics["unsuccessful_expectations"],
        "missing_share": {n: float(s) for n, s in missing.items() if s == s},
        "mix_distance": category_drift(good) if len(good) else {},
    }


def _joined(messages: Sequence[str]) -> str | None:
    """Return the first messages as one line, or None without any."""
    if not messages:
        return None
    more = len(messages) - _MESSAGES_MAX
    return "; ".join(messages[:_MESSAGES_MAX]) + (f"; and {more} more" if more > 0 else "")


def _schema_message(failure: Failure, ads: TypedAds | _Frame) -> str:
    """Say that a column is not there or holds another type, with values that show it."""
    if failure.expectation == "expect_column_to_exist":
        found = ", ".join(map(str, ads.columns[:20])) or "none"
        what = f"is missing; columns found: {found}"
    else:
        column = ads.frame(np.arange(ads.rows), [failure.column])[failure.column]
        values = ", ".join(repr(quote(v)) for v in column.dropna().head(3))
        what = (
            f"holds {failure.observed}, expected is {failure.bounds['type_']}; "
            f"first values: {values or 'none'}"
        )
    return f"{failure.expectation}: the column {failure.column!r} {what}"


def _table_message(failure: Failure, rows: int, quarantine: pd.DataFrame, first: str) -> str:
    """Say that a column is empty, or that ids do not tell the ads apart."""
    if "non_null" in failure.expectation:
        what = (
            f"the column {failure.column!r} is 100 % missing: none of the {rows:,} ads "
            "has a readable value"
        )
    else:
        what = (
            f"{failure.observed:.1%} of the values of {failure.column!r} are distinct, "
            f"at least {failure.bounds['min_value']:.0%} are expected"
        )
    shown = examples(quarantine[quarantine["column"] == failure.column]) or first
    return f"{failure.expectation}: {what}; for example {shown}"


def _rows_message(
    failure: Failure,
    rows: int,
    quarantine: pd.DataFrame,
    settings: ValidationSettings,
    path: Path,
    first: str,
) -> str:
    """Say that too many of the ads are bad, or that too few are good."""
    good = int(failure.observed)
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
    shown = examples(quarantine) or first
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


def _first_ads(ads: TypedAds | _Frame) -> str:
    first = np.arange(min(3, ads.rows))
    titles = ads.frame(first, ["item_id", "title"]).itertuples(index=False)
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
    # A categorical would count values that no ad has.
    observed = values.astype(object).value_counts(normalize=True).rename("observed")
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
