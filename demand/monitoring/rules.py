"""Verdicts on what serves: rules over readings of windows of time, and nothing else.

A reading that is missing is told as missing and decides nothing. One bad window is no verdict
where a rule asks for more of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from demand.config import Settings
from demand.production_log.config import Rule, Series, Verdict

VERDICTS: tuple[Verdict, ...] = ("ok", "watch", "retrain", "alarm")  # the worst last
# How a rule was found: true, not true, or not to be said.
State = Literal["holds", "does not hold", "unknown"]


class Reading(Settings):
    """A figure of one window, with its interval where it has one; None where there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: Annotated[int, Field(ge=0)] = 0  # ads behind it
    missing: str | None = None  # why there is no figure


class Window(Settings):
    """A span of time, start <= time < end, as ISO texts in UTC, and what was read in it."""

    start: str
    end: str
    readings: dict[str, Reading]


class Evidence(Settings):
    """What one window says to a rule."""

    start: str
    figure: float | None
    rows: int
    beyond: bool | None  # None: no evidence
    missing: str | None = None


class Finding(Settings):
    """What became of a rule: its state, and the windows behind that, the newest last."""

    rule: str
    verdict: Verdict  # "ok" unless the rule holds
    state: State
    reading: str
    limit: float
    told: str  # one line for people
    evidence: tuple[Evidence, ...]


class Decision(Settings):
    """A verdict, with all that it follows from: the same inputs give the same ``id``."""

    id: str
    inputs_md5: str
    at: str  # when it was made
    subject: str  # what is judged, such as a version of the model
    verdict: Verdict
    findings: tuple[Finding, ...]
    rules: tuple[Rule, ...]
    windows: dict[Series, tuple[Window, ...]]


Windows = Mapping[Series, Sequence[Window]]


def decide(subject: str, rules: Sequence[Rule], windows: Windows, at: str) -> Decision:
    """Judge windows, of each series the newest last, by rules; the worst verdict is that of all."""
    findings = tuple(judge(rule, windows[rule.series]) for rule in rules)
    verdicts = [found.verdict for found in findings]
    verdict: Verdict = max(verdicts, key=VERDICTS.index, default="ok")
    md5 = inputs_md5(subject, rules, windows)
    return Decision(
        id=md5[:12],
        inputs_md5=md5,
        at=at,
        subject=subject,
        verdict=verdict,
        findings=findings,
        rules=tuple(rules),
        windows={series: tuple(each) for series, each in windows.items()},
    )


def inputs_md5(subject: str, rules: Sequence[Rule], windows: Windows) -> str:
    """Return the MD5 of all that a decision follows from, 32 hexadecimal digits."""
    parts = [subject, *(rule.model_dump_json() for rule in rules)]
    for series in sorted(windows):
        parts += [series, *(window.model_dump_json() for window in windows[series])]
    return hashlib.md5("\n".join(parts).encode(), usedforsecurity=False).hexdigest()


def judge(rule: Rule, windows: Sequence[Window]) -> Finding:
    """Say what windows, the newest last, mean to a rule."""
    evidence = tuple(_evidence(rule, window) for window in windows[-rule.of :])
    newest = evidence[-1] if evidence else None
    beyond = sum(each.beyond is True for each in evidence)
    state: State = "does not hold"
    if newest is None or newest.beyond is None:
        state = "unknown"
    elif newest.beyond and beyond >= rule.windows:
        state = "holds"
    return Finding(
        rule=rule.name,
        verdict=rule.verdict if state == "holds" else "ok",
        state=state,
        reading=rule.reading,
        limit=rule.limit,
        told=_told(rule, newest, beyond, len(evidence), state),
        evidence=evidence,
    )


def _evidence(rule: Rule, window: Window) -> Evidence:
    reading = window.readings.get(rule.reading)
    figure, missing, rows = None, "it was not read", 0
    if reading is not None:
        figure, rows = getattr(reading, rule.by), reading.rows
        missing = reading.missing or f"it has no {rule.by}"
        if figure is not None and rows < rule.rows_min:
            figure, missing = None, f"{rows} ads, fewer than {rule.rows_min}"
    if figure is None:
        return Evidence(start=window.start, figure=None, rows=rows, beyond=None, missing=missing)
    beyond = figure > rule.limit if rule.beyond == "above" else figure < rule.limit
    return Evidence(start=window.start, figure=figure, rows=rows, beyond=beyond)


def _told(rule: Rule, newest: Evidence | None, beyond: int, seen: int, state: State) -> str:
    if newest is None:
        return f"{rule.reading}: there is no window yet"
    if state == "unknown":
        return f"{rule.reading}: no evidence since {newest.start}: {newest.missing}"
    figure = rule.reading if rule.by == "value" else f"{rule.by} end of {rule.reading}"
    told = f"{figure} is {newest.figure:.4g} of {newest.rows} ads, limit {rule.limit:g}"
    if rule.of > 1:
        told += f"; {rule.beyond} it in {beyond} of the last {seen} windows, {rule.windows} needed"
    return told
