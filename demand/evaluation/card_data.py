"""A model card as data, for programs such as the seller's page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from demand.evaluation.facts import ModelFacts

FORMAT = 1
_PARTS = ("train", "validation", "test")


def card_data(facts: ModelFacts) -> dict[str, Any]:
    """Return the facts of a card that a page can draw or tell; JSON-able.

    Parameters
    ----------
    facts
        Of the model. What is absent or not measured (NaN, infinity) becomes None, a table
        that is absent an empty list.

    Returns
    -------
    dict
        ``format``, ``trained`` (ISO date), ``demo``, ``size_bytes``; ``data`` (``file``,
        ``md5``, ``rows``, ``git_commit``); ``rows`` of ``train``, ``validation``, ``test``;
        ``metrics`` by name; ``calibration``, by rising prediction: ``predicted``,
        ``actual`` (means), ``ads``; ``error_by_category``, most ads first: ``category``,
        ``ads``, ``rmse``, ``mean_actual``, ``mean_predicted``; ``weaknesses``,
        ``data_warnings``, one line each. The version is not known before it is registered.
    """
    lineage, read = facts.lineage, facts.lineage.get("data_rows", "")
    return {
        "format": FORMAT,
        "trained": None if facts.trained is None else facts.trained.isoformat(),
        "demo": facts.demo,
        "size_bytes": facts.size_bytes,
        "data": {
            "file": _text(lineage.get("data_file")),
            "md5": _text(lineage.get("data_md5")),
            "rows": int(read) if read.isdecimal() else None,
            "git_commit": _text(lineage.get("git_commit")),
        },
        "rows": {part: facts.rows.get(f"rows_{part}") for part in _PARTS},
        "metrics": {name: _number(value) for name, value in facts.metrics.items()},
        "calibration": _calibration(facts.calibration),
        "error_by_category": _errors(facts.slices),
        "weaknesses": _lines(facts.check_warnings),
        "data_warnings": _lines(facts.data_warnings),
    }


def _calibration(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "predicted": _number(row["predicted_mean"]),
            "actual": _number(row["actual_mean"]),
            "ads": int(row["rows"]),
        }
        for row in table.to_dict("records")
    ]


def _errors(slices: pd.DataFrame) -> list[dict[str, Any]]:
    if slices.empty:  # and perhaps without columns
        return []
    categories = slices[slices["slice"] == "category_name"]
    ordered = categories.sort_values("rows", ascending=False, kind="stable")
    return [_error(row) for row in ordered.to_dict("records")]


def _error(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "category": _text(str(row["value"])),
        "ads": int(row["rows"]),
        "rmse": _number(row["rmse"]),
        "mean_actual": _number(row.get("actual_mean", math.nan)),
        "mean_predicted": _number(row.get("predicted_mean", math.nan)),
    }


def _number(value: float) -> float | None:
    """Return a figure as JSON can carry it."""
    return float(value) if math.isfinite(value) else None


def _lines(warnings: Iterable[str]) -> list[str]:
    """Return each warning on one line; empty ones are none."""
    texts = (_text(" ".join(warning.split())) for warning in warnings)
    return [text for text in texts if text]


def _text(text: str | None) -> str | None:
    """Return a text that can be written; the name of a file need not be Unicode."""
    if not text:
        return None
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
