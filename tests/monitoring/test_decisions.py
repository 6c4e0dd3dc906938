from __future__ import annotations

import json
from pathlib import Path

import pytest

from demand.errors import StateError
from demand.monitoring.alerts import MODEL, alerts_of, notify
from demand.monitoring.decisions import append, read, replay
from demand.monitoring.rules import Decision, Reading, Window, decide
from demand.production_log.config import AlertSettings, Rule
from demand.workspace.workspace import Workspace

RULE = Rule(name="r", reading="x", limit=1.0, verdict="alarm")


def decision(value: float) -> Decision:
    window = Window(start="a", end="b", readings={"x": Reading(value=value, rows=9)})
    return decide("version 1", [RULE], {"answered": [window], "mature": []}, "now")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "decisions.jsonl"
    append(path, decision(0.5))
    append(path, decision(1.5))
    return path


def test_decisions_are_read_as_they_were_made(path: Path) -> None:
    assert [found for _, found in read(path)] == [decision(0.5), decision(1.5)]


def test_a_replay_comes_to_the_same_verdicts(path: Path) -> None:
    assert [(each.line, each.decision.verdict, each.problem) for each in replay(path)] == [
        (1, "ok", None),
        (2, "alarm", None),
    ]


def changed(path: Path, **changes: object) -> str | None:
    told = json.loads(path.read_text().splitlines()[0]) | changes
    path.write_text(json.dumps(told) + "\n")
    (found,) = replay(path)
    return found.problem


def test_a_verdict_that_was_changed_is_found(path: Path) -> None:
    assert changed(path, verdict="alarm") == "again it would be ok, but it was alarm"


def test_inputs_that_were_changed_are_found(path: Path) -> None:
    assert changed(path, subject="version 2") == "its inputs are not those of its md5"


def test_findings_that_were_changed_are_found(path: Path) -> None:
    problem = changed(path, findings=[])
    assert problem == "the verdict is the same, but its findings differ"


def test_alerts_are_the_rules_that_hold_and_what_cannot_be_judged_lasts(
    workspace: Workspace,
) -> None:
    found = decision(1.5)
    (alert,) = alerts_of(found)
    assert (alert.key, alert.severity, alert.decision) == ("r", "alarm", found.id)
    assert alert.title == "version 1: r"
    assert alerts_of(decision(0.5)) == []
    notify(MODEL, [alert], [], AlertSettings())
    unknown = decide("version 1", [RULE], {"answered": [], "mature": []}, "later")
    assert alerts_of(unknown) == [alert]
    assert alerts_of(decision(0.5)) == []


def test_what_a_crash_cut_short_is_left_out_and_written_over(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"id": "torn')
    assert len(list(read(path))) == 2
    append(path, decision(2.5))
    assert [number for number, _ in read(path)] == [1, 2, 3]


def test_a_line_that_is_no_decision_is_named(path: Path) -> None:
    path.write_text('{"id": 1}\n')
    with pytest.raises(StateError, match=r"line 1 of .*decisions\.jsonl is no decision: id"):
        list(replay(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"no decisions in .*none\.jsonl.*--pipeline monitoring"):
        list(replay(tmp_path / "none.jsonl"))
    with pytest.raises(StateError, match="cannot read the decisions"):
        list(replay(tmp_path))
