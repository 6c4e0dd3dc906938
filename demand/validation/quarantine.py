"""The bad rows of a table of ads: one line for each finding, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from demand.schema.arrays import Rows
from demand.schema.error_text import quote, spreadsheet_table
from demand.workspace.workspace import write_aside

QUARANTINE_FILE = "quarantine.csv"
QUARANTINE_COLUMNS = ("row", "line", "item_id", "column", "value", "reason")

_NUMBER = re.compile(r"-?[0-9]+([.][0-9]+)?(e[-+]?[0-9]+)?")


def later_duplicates(ids: pd.Series[str], rows: Rows) -> Rows:
    """Return those of ``rows``, all with an id that occurs twice, that are not its first."""
    ordered = np.sort(rows)
    return ordered[ids.iloc[ordered].duplicated(keep="first").to_numpy(dtype=bool)]


def quarantine_table(
    unparsed: pd.DataFrame,
    findings: Iterable[tuple[str, str, pd.DataFrame]] = (),
    lines: Rows | None = None,
) -> pd.DataFrame:
    """Return one row for each bad cell, in the order of the ads.

    Parameters
    ----------
    unparsed, lines
        As :class:`demand.data.reading.LoadedAds` has them.
    findings
        A column, why values in it are bad, in words that fit after the value, and the ads
        with such values: their ``item_id`` and the column, with the numbers of their rows, from
        0, as index. Of several in one cell the first counts.

    Returns
    -------
    DataFrame
        Columns ``row`` (number of the row, from 0), ``line`` (Int64, missing where
        unknown), ``item_id``, ``column``, ``value`` (shortened) and ``reason``.
    """
    known = unparsed.drop_duplicates("row").set_index("row")["line"]
    parts = [unparsed[list(QUARANTINE_COLUMNS)]]
    for column, reason, ads in findings:
        rows = ads.index.to_numpy()
        cells = {
            "row": rows,
            "line": known.reindex(rows).to_numpy() if lines is None else lines[rows],
            "item_id": ads["item_id"].to_numpy(dtype=object),
            "column": column,
            "value": ads[column].astype(object).to_numpy(),
            "reason": reason,
        }
        parts.append(pd.DataFrame(cells))
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    table = table.drop_duplicates(["row", "column"]).sort_values("row", kind="stable")
    quoted = {name: [quote(value) for value in table[name]] for name in ("item_id", "value")}
    typed = table.assign(**quoted).astype({"row": "int64", "line": "Int64"})
    return typed.reset_index(drop=True)


def write_quarantine(quarantine: pd.DataFrame, path: Path) -> None:
    """Write the findings as CSV, the header also where there are none; atomically.

    Texts that a spreadsheet would take for a formula have an apostrophe before them, see
    :func:`demand.schema.error_text.spreadsheet_safe`.
    """
    shown, values = spreadsheet_table(quarantine), quarantine["value"]
    # A number, such as a price below 0, is no formula.
    numbers = np.array([bool(_NUMBER.fullmatch(str(value))) for value in values], dtype=bool)
    shown["value"] = shown["value"].where(~numbers, values)
    with write_aside(path) as temporary:
        shown.to_csv(temporary, index=False, encoding="utf-8", errors="backslashreplace")


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
