"""Answers and suggestions to many ads, in few requests, that live through a pause of the API."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from demand.advice import Plan, Suggestion, plan
from demand.serving.page.answer import has_own_rank
from demand.serving.page.client import Client, Kind, Trouble
from demand.serving.page.rows import Progress, Row, shown
from demand.serving.page.source import Market
from demand.serving.page.uploads import Problem, Upload

ADS_AT_ONCE = 1_000
# Half of what the API takes in one request.
_BYTES_AT_ONCE = 8 * 2**20
# An API that is away is waited for so long in all, in seconds, and asked again after each
# pause.
WAIT_S = 120.0
_PAUSE_S = 2.0


@dataclass
class _Batch:
    """Rows that are asked about in one request."""

    rows: list[tuple[int, Plan]] = field(default_factory=list)
    ads: int = 0
    size: int = 0


@dataclass
class _Patience:
    """How long a file has waited for its API, its silence included, in seconds."""

    sleep: Callable[[float], None]
    clock: Callable[[], float]
    waited: float = 0.0


def answer_many(
    upload: Upload,
    client: Client,
    kind: Kind,
    market: Market | None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Answer a file, and yield the progress after each request; rows are filled in place.

    An API that is away, busy or slow is waited for; after two minutes in all the rows that
    have no answer yet keep none. An ad that is refused loses its answer, not those beside it.
    """
    begun = clock()
    rows = [
        Row(line, item_id, None if ad is None else shown(ad), upload.problems.get(number, ()))
        for number, (line, item_id, ad) in enumerate(
            zip(upload.places, upload.ids, upload.ads, strict=True)
        )
    ]
    progress = Progress(rows)
    patience = _Patience(sleep, clock)
    yield progress
    for batch in _batches(upload.ads, rows, market):
        last = batch.rows[-1][0]
        try:
            for waiting in _answered(batch, progress, client, kind, patience):
                progress.waiting = waiting
                progress.seconds = clock() - begun
                yield progress
        except Trouble as trouble:
            progress.waiting = trouble
            break
        if progress.finished:
            return
        progress.waiting = None
        progress.reached = last + 1
        progress.seconds = clock() - begun
        yield progress
    else:
        progress.reached = len(rows)
    progress.seconds = clock() - begun
    close(progress)
    yield progress


def close(progress: Progress) -> None:
    """Say of every row that was not reached that it has no answer: nothing more will come."""
    if progress.finished:
        return
    progress.finished = True
    for row in progress.rows:
        if row.ad is not None and row.answer is None and not row.refused:
            row.problems = [*row.problems, Problem(None, "no_answer")]


def _batches(
    ads: Sequence[Mapping[str, Any] | None], rows: Sequence[Row], market: Market | None
) -> Iterator[_Batch]:
    known: dict[Any, Mapping[str, Any] | None] = {}
    batch = _Batch()
    for number, ad in enumerate(ads):
        if ad is None:
            continue
        category = ad["category_name"]
        if market is not None and category not in known:
            known[category] = market.category(category)
        facts = known.get(category)
        rows[number].among_all = not has_own_rank(facts)
        asked = plan(ad, facts, curve=False)
        size = sum(map(_size, asked.ads))
        full = batch.ads + len(asked.ads) > ADS_AT_ONCE or batch.size + size > _BYTES_AT_ONCE
        if batch.rows and full:
            yield batch
            batch = _Batch()
        batch.rows.append((number, asked))
        batch.ads += len(asked.ads)
        batch.size += size
    if batch.rows:
        yield batch


def _size(ad: Mapping[str, Any]) -> int:
    """Return how many bytes an ad takes in a request, with what is between two."""
    return len(json.dumps(ad, ensure_ascii=False).encode("utf-8", "replace")) + 2


def _answered(
    batch: _Batch, progress: Progress, client: Client, kind: Kind, patience: _Patience
) -> Iterator[Trouble]:
    """Fill in the answers to a batch; yield each trouble that is waited out.

    Raises
    ------
    Trouble
        There will be no answer, to this batch or another.
    """
    rows = progress.rows
    while batch.rows:
        ads = [ad for _, asked in batch.rows for ad in asked.ads]
        begun = patience.clock()
        try:
            answers = client.answers(ads, kind)
        except Trouble as trouble:
            if trouble.kind == "refused":
                _set_aside(batch, rows, trouble)
                continue
            patience.waited += patience.clock() - begun
            if trouble.kind in ("denied", "strange") or patience.waited >= WAIT_S:
                raise
            yield trouble
            begun = patience.clock()
            patience.sleep(_PAUSE_S)
            patience.waited += patience.clock() - begun
            continue
        if progress.finished:
            # Somebody pressed stop meanwhile, and was told that these have no answer.
            return
        first = 0
        for number, asked in batch.rows:
            own = answers[first : first + len(asked.ads)]
            first += len(asked.ads)
            rows[number].answer = own[0]
            found = asked.read([a.probability for a in own]).suggestions
            rows[number].suggestions = tuple(map(_shortened, found))
        return


def _shortened(suggestion: Suggestion) -> Suggestion:
    """Keep only the length of a text that nobody is shown here."""
    if suggestion.kind != "description":
        return suggestion
    return dataclasses.replace(suggestion, value=len(suggestion.value))


def _set_aside(batch: _Batch, rows: list[Row], trouble: Trouble) -> None:
    """Take out of the batch what was refused: a row, its variants, or all of the batch.

    Only what a seller wrote is the seller's fault: where a variant was refused, the ad
    stays, and is asked about alone.
    """
    first = 0
    for position, (number, asked) in enumerate(batch.rows):
        if trouble.row is not None and first <= trouble.row < first + len(asked.ads):
            if trouble.row > first:
                batch.rows[position] = (number, asked.alone())
            else:
                _refuse(rows[number], Problem(trouble.field, trouble.detail or "refused"))
                del batch.rows[position]
            return
        first += len(asked.ads)
    for number, _ in batch.rows:
        _refuse(rows[number], Problem(None, trouble.detail or "refused"))
    batch.rows.clear()


def _refuse(row: Row, problem: Problem) -> None:
    row.problems = [*row.problems, problem]
    row.refused = True
