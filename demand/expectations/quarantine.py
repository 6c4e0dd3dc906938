"""The bad rows of a table of ads: one line for each finding, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.quoting import quote
from demand.state import write_aside

QUARANTINE_COLUMNS = ("row", "line", "item_id", "column", "value", "reason")


@dataclass(frozen=True)
class Finding:
    """Rows that fail one expectation.

    Parameters
    ----------
    column
        The column whose values are wrong.
    reason
        Why, in words that fit after the value.
    rows
        Positions in the frame, counted from 0, shape (k,).
    """

    column: str
    reason: str
    rows: NDArray[np.int64]


def later_duplicates(ids: pd.Series[str], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of ``rows``, all with an id that occurs twice, that are not its first."""
    ordered = np.sort(rows)
    return ordered[ids.iloc[ordered].duplicated(keep="first").to_numpy(dtype=bool)]


def unreadable_findings(unparsed: pd.DataFrame, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Return the cells of ``rows`` that could not be read, as findings."""
    cells = unparsed[unparsed["row"].isin(rows)]
    findings = cells.reindex(columns=list(QUARANTINE_COLUMNS))
    return findings.assign(
        line=cells["line"].astype("Int64"),
        item_id=[quote(value) for value in cells["item_id"]],
        value=[quote(value) for value in cells["value"]],
    )


def quarantine_table(
    frame: pd.DataFrame,
    unreadable: pd.DataFrame,
    findings: Iterable[Finding],
    lines: NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """Return one row for each bad cell, in the order of the frame.

    Parameters
    ----------
    frame
        The ads, with the index 0 … n-1.
    unreadable
        What :func:`unreadable_findings` returned.
    findings
        The others; of several in one cell the first counts.
    lines
        The line of the file in which each ad begins, shape (n,), where known.

    Returns
    -------
    DataFrame
        Columns ``row`` (position in the frame, from 0), ``line`` (Int64, missing where
        unknown), ``item_id``, ``column``, ``value`` (shortened) and ``reason``.
    """
    known = pd.Series(unreadable["line"].to_numpy(), index=unreadable["row"].to_numpy())
    known = known[~known.index.duplicated()]
    parts = [unreadable]
    for finding in findings:
        line = pd.Series(known.reindex(finding.rows).to_numpy(), dtype="Int64")
        if lines is not None:
            line = pd.Series(lines[finding.rows], dtype="Int64")
        parts.append(
            pd.DataFrame(
                {
                    "row": finding.rows,
                    "line": line,
                    "item_id": [quote(v) for v in frame["item_id"].iloc[finding.rows]],
                    "column": finding.column,
                    "value": [quote(v) for v in frame[finding.column].iloc[finding.rows]],
                    "reason": finding.reason,
                }
            )
        )
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    table = table.drop_duplicates(["row", "column"])
    return table.sort_values("row", kind="stable", ignore_index=True)[list(QUARANTINE_COLUMNS)]


def empty_quarantine() -> pd.DataFrame:
    """Return a quarantine without a row."""
    return pd.DataFrame(columns=list(QUARANTINE_COLUMNS), dtype=object).astype(
        {"row": "int64", "line": "Int64"}
    )


def write_quarantine(quarantine: pd.DataFrame, path: Path) -> None:
    """Write the findings as CSV, the header also where there are none; atomically."""
    with write_aside(path) as temporary:
        quarantine.to_csv(temporary, index=False, encoding="utf-8", errors="backslashreplace")


def most_frequent(quarantine: pd.DataFrame, limit: int = 5) -> dict[str, int]:
    """Return how many cells each ``column: reason`` has, the most frequent first."""
    names = quarantine["column"].str.cat(quarantine["reason"], sep=": ")
    return {str(name): int(n) for name, n in names.value_counts().head(limit).items()}


def examples(quarantine: pd.DataFrame, limit: int = 3) -> str:
    """Name some bad rows, of different reasons first; empty where there are none."""
    if quarantine.empty:
        return ""
    firsts = quarantine[~quarantine.duplicated(["column", "reason"])]
    shown = pd.concat([firsts, quarantine.drop(firsts.index)]).head(limit)
    return "; ".join(
        f"ad {item_id!r} ({f'row {row}' if pd.isna(line) else f'line {line}'}): "
        f"{column} = {value!r} ({reason})"
        for row, line, item_id, column, value, reason in shown.itertuples(index=False)
    )
