"""The rows of a file with what became of them, and the same as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demand.advice import Suggestion
from demand.serving.page.answer import suggestion_text
from demand.serving.page.client import Answer, Trouble
from demand.serving.page.texts import Language, knows, points, text
from demand.serving.page.uploads import Problem

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SUGGESTIONS = 5


@dataclass
class Row:
    """One row of the file and what became of it.

    Parameters
    ----------
    line
        Where it begins in the file, from 1.
    ad
        What is shown of the ad, as :func:`shown` says; None where there is too little to ask.
    problems
        What is wrong with it; an ad is answered without the cells that are named.
    answer
        None where there is none.
    suggestions
        The value of a description is only its length.
    refused
        The API did not take it.
    among_all
        Its category has no rank of its own: it is compared with the ads of all.
    """

    line: int
    item_id: str | None
    ad: Mapping[str, Any] | None
    problems: Sequence[Problem] = ()
    answer: Answer | None = None
    suggestions: tuple[Suggestion, ...] = ()
    refused: bool = False
    among_all: bool = False


@dataclass
class Progress:
    """How far it is.

    Parameters
    ----------
    rows
        All rows of the file; those that were reached have their answer.
    reached
        How many that is.
    waiting
        Why nothing moves just now, or None.
    finished
        Nothing more will come.
    """

    rows: list[Row]
    reached: int = 0
    waiting: Trouble | None = None
    finished: bool = False
    seconds: float = 0.0


def shown(ad: Mapping[str, Any]) -> dict[str, Any]:
    """Return what table and CSV need of an ad: a visit remembers thousands of them.

    Of the description that is only whether there is one.
    """
    kept = {name: ad[name] for name in ("title", "price") if name in ad}
    return kept | {"description": bool(ad.get("description"))}


def results_csv(language: Language, rows: Sequence[Row]) -> str:
    """Return the answers as CSV; a text that a spreadsheet would compute is made harmless."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    names = [f"suggestion_{number + 1}" for number in range(_SUGGESTIONS)]
    writer.writerow(
        ["line", "item_id", "deal_probability", "low", "high", "percentile", *names, "problem"]
    )
    for row in rows:
        answer = row.answer
        numbers = (
            [None] * 4
            if answer is None
            else [answer.probability, answer.low, answer.high, answer.percentile]
        )
        words = [suggestion_words(language, row, s) for s in row.suggestions]
        words += [""] * (_SUGGESTIONS - len(words))
        writer.writerow(
            [
                row.line,
                harmless(row.item_id or ""),
                *("" if number is None else repr(float(number)) for number in numbers),
                *map(harmless, words),
                harmless(problem_words(language, row)),
            ]
        )
    return written.getvalue()


def harmless(cell: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def suggestion_words(language: Language, row: Row, suggestion: Suggestion) -> str:
    """Return a suggestion with its gain, on one line."""
    words = suggestion_text(language, suggestion, row.ad or {})
    gain = text(language, "many.gain", gain=points(language, suggestion.gain))
    return f"{words.removesuffix('.')} ({gain})"


def problem_words(language: Language, row: Row) -> str:
    """Return what is wrong with a row, and what that means for its answer."""
    if not row.problems:
        return ""
    told = []
    for problem in row.problems:
        reason = _reason(language, problem.reason)
        if problem.column is None:
            told.append(reason)
        else:
            key = f"field.{problem.column}"
            name = text(language, key) if knows(key) else problem.column
            told.append(f"{name}: {reason}")
    meaning = "many.without_cell" if row.answer is not None else "many.not_answered"
    return f"{'; '.join(told)} — {text(language, meaning)}"


def _reason(language: Language, reason: str) -> str:
    if reason.startswith("fields:"):
        _, found, expected = reason.split(":")
        return text(language, "reason.fields", found=found, expected=expected)
    # The reader's words, of which some have an advice after a colon.
    key = f"reason.{reason.split(':')[0].strip().replace(' ', '_')}"
    return text(language, key) if knows(key) else reason


def answered_of(rows: Sequence[Row]) -> int:
    """Return how many rows have an answer."""
    return sum(row.answer is not None for row in rows)
