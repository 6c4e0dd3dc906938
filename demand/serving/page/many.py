"""Answers and suggestions to many ads, in few requests, that live through a pause of the API."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from demand.advice import Plan, Suggestion, plan
from demand.serving.page.answer import suggestion_text
from demand.serving.page.client import Answer, Client, Kind, Trouble
from demand.serving.page.source import Market
from demand.serving.page.texts import Language, knows, points, text
from demand.serving.page.uploads import Problem, Upload

ADS_AT_ONCE = 1_000
# Half of what the API takes in one request.
_BYTES_AT_ONCE = 8 * 2**20
# An API that is away is waited for so long, in seconds, and asked again after each pause.
WAIT_S = 120.0
_PAUSE_S = 2.0
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
        What was asked about; None where there is too little to ask.
    problems
        What is wrong with it; an ad is answered without the cells that are named.
    answer
        None where there is none.
    refused
        The API did not take it.
    """

    line: int
    item_id: str | None
    ad: Mapping[str, Any] | None
    problems: Sequence[Problem] = ()
    answer: Answer | None = None
    suggestions: tuple[Suggestion, ...] = ()
    refused: bool = False


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
    complete: bool = True


@dataclass
class _Batch:
    """Rows that are asked about in one request."""

    rows: list[tuple[int, Plan]] = field(default_factory=list)
    ads: int = 0
    size: int = 0


def answer_many(
    upload: Upload,
    client: Client,
    kind: Kind,
    market: Market | None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Progress]:
    """Answer a file, and yield the progress after each request; rows are filled in place.

    An API that is away, busy or slow is waited for; after two minutes the rows that have
    no answer yet keep none. An ad that is refused loses its answer, not those beside it.
    """
    begun = time.monotonic()
    rows = [
        Row(line, item_id, ad, upload.problems.get(number, ()))
        for number, (line, item_id, ad) in enumerate(
            zip(upload.places, upload.ids, upload.ads, strict=True)
        )
    ]
    progress = Progress(rows, complete=kind == "flask")
    yield progress
    for batch in _batches(rows, market):
        last = batch.rows[-1][0]
        try:
            for waiting in _answered(batch, rows, client, kind, sleep):
                progress.waiting = waiting
                progress.seconds = time.monotonic() - begun
                yield progress
        except Trouble as trouble:
            progress.waiting = trouble
            break
        progress.waiting = None
        progress.reached = last + 1
        progress.seconds = time.monotonic() - begun
        yield progress
    else:
        progress.reached = len(rows)
    progress.finished = True
    progress.seconds = time.monotonic() - begun
    for row in rows:
        if row.ad is not None and row.answer is None and not row.refused:
            row.problems = [*row.problems, Problem(None, "no_answer")]
    yield progress


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


def _batches(rows: Sequence[Row], market: Market | None) -> Iterator[_Batch]:
    known: dict[Any, Mapping[str, Any] | None] = {}
    batch = _Batch()
    for number, row in enumerate(rows):
        if row.ad is None:
            continue
        category = row.ad["category_name"]
        if market is not None and category not in known:
            known[category] = market.category(category)
        asked = plan(row.ad, known.get(category), curve=False)
        # Letters of ads are mostly Cyrillic: two bytes each.
        size = 2 * sum(len(str(ad.get("description", ""))) + 600 for ad in asked.ads)
        full = batch.ads + len(asked.ads) > ADS_AT_ONCE or batch.size + size > _BYTES_AT_ONCE
        if batch.rows and full:
            yield batch
            batch = _Batch()
        batch.rows.append((number, asked))
        batch.ads += len(asked.ads)
        batch.size += size
    if batch.rows:
        yield batch


def _answered(
    batch: _Batch, rows: list[Row], client: Client, kind: Kind, sleep: Callable[[float], None]
) -> Iterator[Trouble]:
    """Fill in the answers to a batch; yield each trouble that is waited out.

    Raises
    ------
    Trouble
        There will be no answer.
    """
    waited = 0.0
    while batch.rows:
        ads = [ad for _, asked in batch.rows for ad in asked.ads]
        try:
            answers = client.answers(ads, kind)
        except Trouble as trouble:
            if trouble.kind == "refused" and trouble.row is not None:
                _set_aside(batch, rows, trouble)
                continue
            if trouble.kind in ("denied", "strange", "refused") or waited >= WAIT_S:
                raise
            yield trouble
            sleep(_PAUSE_S)
            waited += _PAUSE_S
            continue
        first = 0
        for number, asked in batch.rows:
            own = answers[first : first + len(asked.ads)]
            first += len(asked.ads)
            rows[number].answer = own[0]
            rows[number].suggestions = asked.read([a.probability for a in own]).suggestions
        return


def _set_aside(batch: _Batch, rows: list[Row], trouble: Trouble) -> None:
    """Take the refused ad's row out of the batch."""
    first = 0
    for position, (number, asked) in enumerate(batch.rows):
        first += len(asked.ads)
        if (trouble.row or 0) < first:
            problem = Problem(trouble.field, trouble.detail)
            rows[number].problems = [*rows[number].problems, problem]
            rows[number].refused = True
            del batch.rows[position]
            return
    batch.rows.clear()


def answered_of(rows: Sequence[Row]) -> int:
    """Return how many rows have an answer."""
    return sum(row.answer is not None for row in rows)
