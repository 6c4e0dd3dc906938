"""What failed expectations mean for a whole table of ads, told to a person.

Each message names the expectation, what was observed and what was demanded, and ads
that show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from demand.config import ValidationSettings
from demand.expectations.mix import mix_shares, reference_mixes
from demand.expectations.quarantine import examples, most_frequent
from demand.quoting import quote
from demand.reference import reference

if TYPE_CHECKING:
    from demand.expectations.inspection import Outcome

_MESSAGES_MAX = 3


def join_messages(messages: Sequence[str]) -> str | None:
    """Return the first messages as one line, or None without any."""
    if not messages:
        return None
    more = len(messages) - _MESSAGES_MAX
    return "; ".join(messages[:_MESSAGES_MAX]) + (f"; and {more} more" if more > 0 else "")


def schema_refusals(outcomes: Sequence[Outcome], frame: pd.DataFrame) -> list[str]:
    """Say which columns are not there or hold another type, with values that show it."""
    messages = []
    for outcome in outcomes:
        if outcome.success:
            continue
        if outcome.rule == "exists":
            found = ", ".join(map(str, frame.columns[:20])) or "none"
            what = f"the column {outcome.column!r} is missing; columns found: {found}"
        else:
            values = ", ".join(repr(quote(v)) for v in frame[outcome.column].dropna().head(3))
            what = (
                f"the column {outcome.column!r} holds {outcome.observed}, "
                f"expected is {outcome.bounds['type_']}; first values: {values or 'none'}"
            )
        messages.append(f"{outcome.expectation}: {what}")
    return messages


def table_refusals(
    outcomes: Sequence[Outcome], frame: pd.DataFrame, quarantine: pd.DataFrame
) -> list[str]:
    """Say which columns are empty, and that ids do not tell the ads apart."""
    messages = []
    for outcome in outcomes:
        if outcome.success:
            continue
        if outcome.rule == "not empty":
            what = (
                f"the column {outcome.column!r} is 100 % missing: none of the {len(frame):,} ads "
                "has a readable value"
            )
        else:
            what = (
                f"{outcome.observed:.1%} of the values of {outcome.column!r} are distinct, "
                f"at least {outcome.bounds['min_value']:.0%} are expected"
            )
        shown = examples(quarantine[quarantine["column"] == outcome.column]) or first_ads(frame)
        messages.append(f"{outcome.expectation}: {what}; for example {shown}")
    return messages


def remaining_refusals(
    outcomes: Sequence[Outcome],
    frame: pd.DataFrame,
    quarantine: pd.DataFrame,
    settings: ValidationSettings,
    path: Path,
) -> list[str]:
    """Say that too many of the ads are bad, or that too few are good."""
    messages = []
    for outcome in outcomes:
        if outcome.success:
            continue
        good = int(outcome.observed)
        if outcome.rule == "bad rows":
            bad = len(frame) - good
            reasons = "; ".join(f"{r} ({n:,})" for r, n in most_frequent(quarantine, 3).items())
            what = (
                f"{bad:,} of {len(frame):,} ads ({bad / len(frame):.1%}) are bad rows, at most "
                f"{settings.quarantine_share_max:.1%} may be (validation.quarantine_share_max); "
                f"most frequent: {reasons}"
            )
        else:
            what = (
                f"{good:,} of {len(frame):,} ads {'is' if good == 1 else 'are'} good, at least "
                f"{settings.min_rows:,} are needed (validation.min_rows)"
            )
        shown = examples(quarantine) or first_ads(frame)
        where = f"; all bad rows are in {path}" if len(quarantine) else ""
        messages.append(f"{outcome.expectation}: {what}; for example {shown}{where}")
    return messages


def first_ads(frame: pd.DataFrame) -> str:
    """Name the first three ads of a frame."""
    titles = frame[["item_id", "title"]].head(3).itertuples(index=False)
    return (
        "; ".join(f"ad {quote(item)!r}: title = {quote(title)!r}" for item, title in titles)
        or "none: there are no ads"
    )


def drift_warnings(
    outcomes: Sequence[Outcome], ads: pd.DataFrame, settings: ValidationSettings
) -> list[str]:
    """Say how good ads differ from the reference: one line for each difference."""
    tellers = {
        "missing share": _missing_share,
        "one category": _one_category,
        "mix": _mix,
    }
    return [
        f"drift: {tellers[o.rule](o, ads, settings)} ({o.expectation})"
        for o in outcomes
        if not o.success
    ]


def _missing_share(outcome: Outcome, ads: pd.DataFrame, settings: ValidationSettings) -> str:
    observed = 1.0 - float(outcome.observed)
    expected = reference().missing_share[outcome.column]
    return (
        f"{outcome.column} is missing in {observed:.1%} of the {len(ads):,} ads and in "
        f"{expected:.1%} of the reference, {settings.missing_share_tolerance:.1%} of difference "
        "are tolerated"
    )


def _one_category(outcome: Outcome, ads: pd.DataFrame, _: ValidationSettings) -> str:
    return (
        f"all {len(ads):,} ads are of one category, {ads[outcome.column].iloc[0]!r}: "
        "a model of them knows nothing of the others"
    )


def _mix(outcome: Outcome, ads: pd.DataFrame, settings: ValidationSettings) -> str:
    counts = reference_mixes()[outcome.column]
    furthest = "; ".join(
        f"{value} {observed:.1%} instead of {expected:.1%}"
        for value, observed, expected in mix_shares(ads[outcome.column], counts)
        .head(3)
        .itertuples()
    )
    return (
        f"the mix of {outcome.column} is {float(outcome.observed):.3f} away from the reference "
        f"(total variation distance), {settings.category_mix_tolerance:.3f} are tolerated: "
        f"{furthest}"
    )
