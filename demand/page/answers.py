"""Answers and suggestions: to one ad, or to many in few requests, through a pause of the API."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

from demand.page.api import Answer, CategoryStatistics, Client, Kind, Source, Trouble
from demand.page.uploads import Problem, Row, Upload
from demand.schema.columns import CATEGORY_ROWS_MIN
from demand.serving.recommendations import Plan, Recommendations, plan

ADS_AT_ONCE = 1_000
# Half of what the API takes in one request.
_BYTES_AT_ONCE = 8 * 2**20
# An API that is away is waited for so long in all, its silence included, and asked again after
# each pause, in seconds.
WAIT_S = 120.0
_PAUSE_S = 2.0


@dataclass(frozen=True)
class Result:
    """One ad as it was sent, the answer to it, and what those to its variants advise.

    The facts of its category are None where they are not known. It is complete where the API
    tells intervals and percentiles; an MLflow model server does not.
    """

    ad: Mapping[str, Any]
    answer: Answer
    advice: Recommendations
    facts: Mapping[str, Any] | None
    complete: bool

    @property
    def has_own_percentile(self) -> bool:
        """Say whether it is ranked among its category's ads, and not among all."""
        return _has_percentiles(self.facts)


def _has_percentiles(facts: Mapping[str, Any] | None) -> bool:
    return facts is not None and facts.get("ads", 0) >= CATEGORY_ROWS_MIN


def answered(source: Source, ad: Mapping[str, Any]) -> Result:
    """Ask about an ad, its variants and its prices, or about the ad alone where that is refused.

    :class:`Trouble` where there was no answer.
    """
    snapshot, kind = source.answering()
    facts = snapshot.statistics.category(ad["category_name"]) if snapshot.statistics else None
    asked = plan(ad, facts)
    try:
        answers = source.client.answers(asked.ads, kind)
    except Trouble as trouble:
        if trouble.kind != "refused" or trouble.row == 0:
            raise
        # A change of ours was refused, or all of them together: the ad itself may be good.
        asked = asked.alone()
        answers = source.client.answers(asked.ads, kind)
    advice = asked.read([answer.probability for answer in answers])
    return Result(ad, answers[0], advice, facts, complete=kind == "flask")


# Rows that are asked about in one request.
_Batch = list[tuple[Row, Plan]]


@dataclass
class Progress:
    """How far it is with all rows of a file, of which those reached have their answer.

    ``waiting`` is why nothing moves just now, or None; once it is finished, nothing more comes.
    """

    rows: list[Row]
    reached: int = 0
    waiting: Trouble | None = None
    finished: bool = False
    seconds: float = 0.0

    def close(self) -> None:
        """Say of every row that was not reached that it has no answer."""
        if self.finished:
            return
        self.finished = True
        for row in self.rows:
            if row.ad is not None and row.answer is None and not row.refused:
                row.problems.append(Problem(None, "no_answer"))


def answer_many(
    upload: Upload,
    client: Client,
    kind: Kind,
    statistics: CategoryStatistics | None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Answer a file, and yield the progress after each request; rows are filled in place.

    An API that is away, busy or slow is waited for; after two minutes in all the rows that
    have no answer yet keep none. An ad that is refused loses its answer, not those beside it.
    """
    begun, waited = clock(), 0.0
    progress = Progress(upload.rows)
    yield progress
    for reached, batch in _batches(upload, statistics):
        while batch:
            asked = clock()
            try:
                plans = [asked.ads for _, asked in batch]
                own = accumulate(map(len, plans[:-1]), initial=0)
                answers = client.answers(list(chain.from_iterable(plans)), kind, own)
            except Trouble as trouble:
                if trouble.kind == "refused":
                    _set_aside(batch, trouble)
                    continue
                progress.waiting, progress.seconds = trouble, clock() - begun
                waited += clock() - asked
                if trouble.kind in ("denied", "strange") or waited >= WAIT_S:
                    progress.close()
                    yield progress
                    return
                yield progress
                asked = clock()
                sleep(_PAUSE_S)
                waited += clock() - asked
                continue
            if progress.finished:
                # Somebody pressed stop meanwhile, and was told that these have no answer.
                return
            _fill(batch, answers)
            break
        progress.waiting, progress.reached = None, reached
        progress.seconds = clock() - begun
        yield progress
    progress.reached, progress.seconds = len(progress.rows), clock() - begun
    progress.close()
    yield progress


def _batches(upload: Upload, statistics: CategoryStatistics | None) -> Iterator[tuple[int, _Batch]]:
    """Yield the rows of each request, and how many of the file's are reached with them."""
    categories = {ad["category_name"] for ad in upload.ads if ad is not None}
    facts = {name: statistics.category(name) for name in categories} if statistics else {}
    batch: _Batch = []
    reached = asked_ads = size = 0
    for number, (ad, row) in enumerate(zip(upload.ads, upload.rows, strict=True), 1):
        if ad is None:
            continue
        known = facts.get(ad["category_name"])
        row.among_all = not _has_percentiles(known)
        asked = plan(ad, known, curve=False)
        # Of each ad in the request, with what is between two.
        texts = (json.dumps(each, ensure_ascii=False) for each in asked.ads)
        asked_size = sum(len(each.encode("utf-8", "replace")) + 2 for each in texts)
        full = asked_ads + len(asked.ads) > ADS_AT_ONCE or size + asked_size > _BYTES_AT_ONCE
        if batch and full:
            yield reached, batch
            batch, asked_ads, size = [], 0, 0
        batch.append((row, asked))
        reached = number
        asked_ads += len(asked.ads)
        size += asked_size
    if batch:
        yield reached, batch


def _fill(batch: _Batch, answers: Sequence[Answer]) -> None:
    first = 0
    for row, asked in batch:
        own = answers[first : first + len(asked.ads)]
        first += len(asked.ads)
        found = asked.read([answer.probability for answer in own]).suggestions
        row.answer = own[0]
        # Of a text that nobody is shown here, only its length.
        row.suggestions = tuple(
            dataclasses.replace(each, value=len(each.value)) if each.kind == "description" else each
            for each in found
        )


def _set_aside(batch: _Batch, trouble: Trouble) -> None:
    """Take out of the batch what was refused: a row, its variants, or all of the batch.

    Only what a seller wrote is the seller's fault: where a variant was refused, the ad
    stays, and is asked about alone.
    """
    first = 0
    for position, (row, asked) in enumerate(batch):
        if trouble.row is not None and first <= trouble.row < first + len(asked.ads):
            if trouble.row > first:
                batch[position] = (row, asked.alone())
            else:
                row.refuse(trouble.field, trouble.detail)
                del batch[position]
            return
        first += len(asked.ads)
    for row, _ in batch:
        row.refuse(None, trouble.detail)
    batch.clear()
