from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from demand.monitoring.rules import VERDICTS, Reading, Window, Windows, decide, judge
from demand.production_log.config import Rule

FIGURES = st.lists(st.none() | st.floats(-2, 2), max_size=6)


def rule(**changes: Any) -> Rule:
    given_ = {"name": "r", "reading": "x", "limit": 1.0, "verdict": "retrain"}
    return Rule(**(given_ | changes))


def windows(*figures: float | None, rows: int = 100) -> list[Window]:
    return [
        Window(
            start=f"day {n}",
            end=f"day {n + 1}",
            readings={
                "x": Reading(value=value, rows=rows, missing="lost" if value is None else None)
            },
        )
        for n, value in enumerate(figures)
    ]


def answered(*figures: float | None) -> Windows:
    return {"answered": windows(*figures), "mature": []}


@given(FIGURES, st.integers(1, 4), st.integers(0, 3))
def test_a_rule_holds_where_the_newest_and_enough_of_the_last_lie_beyond(
    figures: list[float | None], needed: int, more: int
) -> None:
    of = needed + more
    found = judge(rule(windows=needed, of=of), windows(*figures))
    last = figures[-of:]
    beyond = [figure is not None and figure > 1.0 for figure in last]
    assert (found.state == "holds") == (bool(last) and beyond[-1] and sum(beyond) >= needed)
    assert (found.state == "unknown") == (not last or last[-1] is None)
    assert found.verdict == ("retrain" if found.state == "holds" else "ok")
    assert len(found.evidence) == len(last)


def test_one_bad_window_is_no_verdict_where_two_are_needed() -> None:
    asked = rule(windows=2, of=3)
    assert judge(asked, windows(0.0, 0.0, 5.0)).verdict == "ok"
    assert judge(asked, windows(5.0, 0.0, 5.0)).verdict == "retrain"
    assert judge(asked, windows(5.0, 5.0, 0.0)).verdict == "ok"


def test_too_few_ads_are_no_evidence() -> None:
    found = judge(rule(rows_min=50), windows(5.0, rows=49))
    assert (found.state, found.verdict) == ("unknown", "ok")
    assert found.told == "x: no evidence since day 0: 49 ads, fewer than 50"


def test_a_reading_that_is_missing_says_why() -> None:
    assert judge(rule(), windows(None)).told.endswith("day 0: lost")
    assert judge(rule(reading="y"), windows(5.0)).told.endswith("it was not read")
    assert judge(rule(), []).told == "x: there is no window yet"


def test_a_bound_below() -> None:
    assert judge(rule(beyond="below"), windows(0.5)).state == "holds"
    assert judge(rule(beyond="below"), windows(1.0)).state == "does not hold"


def test_an_end_of_the_interval_may_be_asked_for() -> None:
    wide = Reading(value=3.0, low=0.5, high=5.0, rows=9)
    window = Window(start="a", end="b", readings={"x": wide})
    assert judge(rule(by="low"), [window]).state == "does not hold"
    assert judge(rule(by="high"), [window]).state == "holds"
    assert judge(rule(by="low"), windows(3.0)).told.endswith("it has no low")


def test_the_worst_verdict_counts() -> None:
    rules = [rule(verdict=verdict, limit=limit) for limit, verdict in enumerate(VERDICTS[1:])]
    assert [decide("m", rules, answered(x), "").verdict for x in (-1.0, 0.5, 1.5, 2.5)] == [
        *VERDICTS
    ]


def test_each_rule_looks_at_its_series() -> None:
    asked = rule(series="mature")
    assert decide("m", [asked], answered(5.0), "").verdict == "ok"
    assert decide("m", [asked], {"answered": [], "mature": windows(5.0)}, "").verdict == "retrain"


def test_the_id_follows_from_the_inputs_alone() -> None:
    one = decide("m", [rule()], answered(5.0), "today")
    assert one.id == decide("m", [rule()], answered(5.0), "tomorrow").id
    others = [
        decide("n", [rule()], answered(5.0), ""),
        decide("m", [rule(limit=2.0)], answered(5.0), ""),
        decide("m", [rule()], answered(5.1), ""),
        decide("m", [rule()], {"answered": [], "mature": windows(5.0)}, ""),
    ]
    assert len({one.id, *(other.id for other in others)}) == 5


def test_more_windows_than_there_are_cannot_be_asked_for() -> None:
    with pytest.raises(ValidationError, match="3 of the last 2 windows cannot be"):
        rule(windows=3, of=2)
