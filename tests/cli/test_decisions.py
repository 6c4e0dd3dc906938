from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from demand.monitoring.decisions import append
from demand.monitoring.rules import Reading, Window, decide
from demand.production_log.config import Rule
from demand.workspace.workspace import Workspace

RULE = Rule(name="far off", reading="x", limit=1.0, verdict="alarm")


def decided(path: Path) -> None:
    window = Window(start="a", end="b", readings={"x": Reading(value=2.0, rows=9)})
    append(path, decide("version 1", [RULE], {"answered": [window], "mature": []}, "now"))


def test_decisions_are_listed(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    decided(workspace.decisions)
    assert main(["decisions", "list"]) == 0
    told = capfd.readouterr().out
    for text in ("version 1", "alarm", "far off"):
        assert text in told


def test_a_file_is_replayed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "decisions.jsonl"
    decided(path)
    assert main(["decisions", "replay", str(path)]) == 0
    assert capfd.readouterr().out == "1 of 1 decisions come out as they were made\n"


def test_one_that_comes_out_otherwise_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "decisions.jsonl"
    decided(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"verdict": "ok"}) + "\n")
    assert main(["decisions", "replay", str(path)]) == 1
    told = capfd.readouterr().out
    assert "line 1, decision" in told
    assert "again it would be alarm, but it was ok" in told
    assert "0 of 1 decisions come out as they were made" in told


def test_where_nothing_was_decided_the_way_there_is_told(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["decisions", "list"]) == 1
    assert "run.py --pipeline monitoring" in capfd.readouterr().err
