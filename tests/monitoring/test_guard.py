from __future__ import annotations

from typing import Any

import pytest

from demand.monitoring import guard
from demand.monitoring.guard import reason_to_roll_back, roll_back_where_worse
from demand.monitoring.rules import Decision, Reading, Window, decide
from demand.production_log.config import Rule
from demand.workspace.workspace import Workspace


def decision(value: float, **rule: Any) -> Decision:
    rules = [Rule(name="r", reading="x", limit=1.0, verdict="alarm", **rule)]
    window = Window(start="a", end="b", readings={"x": Reading(value=value, rows=9)})
    return decide("version 2", rules, {"answered": [window], "mature": []}, "now")


def test_only_a_rule_that_says_so_rolls_back() -> None:
    assert reason_to_roll_back(decision(2.0)) is None
    assert reason_to_roll_back(decision(0.5, rolls_back=True)) is None
    found = reason_to_roll_back(decision(2.0, rolls_back=True))
    assert found is not None
    assert found.rule == "r"


def test_what_is_champion_no_more_is_not_rolled_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def switched(*_: object) -> None:
        pytest.fail("it was rolled back")

    monkeypatch.setattr(guard, "roll_back", switched)
    assert roll_back_where_worse(decision(2.0, rolls_back=True), "2") is None
