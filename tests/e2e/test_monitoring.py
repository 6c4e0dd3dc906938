"""The pipeline that judges what serves, against a model that was trained and deployed."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from demand.data.reading import read_ads
from demand.registry.model_files import load_predictor
from demand.registry.packaging import log_model
from demand.registry.registry import Registry
from demand.registry.tracking import start_run
from demand.schema.columns import TARGET
from demand.workspace.workspace import Workspace, read_json
from tests.e2e.door import Door
from tests.e2e.installation import Installation
from tests.monitoring.past import answer_ago, flat, new_ads

pytestmark = pytest.mark.e2e

MONITORING = [sys.executable, "run.py", "--pipeline", "monitoring"]
NOW = datetime.datetime.now(datetime.UTC)
THIS_WEEK = NOW.weekday()  # days of it that are over
MATURE = 30  # days


@pytest.fixture
def logging(serving: Installation, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return the installation as a program sees it that logs predictions."""
    monkeypatch.delenv("DEMAND_LOG_URL", raising=False)
    monkeypatch.setenv("DEMAND_HOME", str(serving.home))
    serving.environment.pop("DEMAND_LOG_URL", None)
    return Workspace(serving.home)


@pytest.fixture(scope="module")
def ads(demo_ads: Path) -> pd.DataFrame:
    return read_ads(demo_ads).frame.head(600)


def figures(serving: Installation) -> dict[str, Any]:
    return read_json(serving.reports.parent / "monitoring" / "metrics.json")


def test_a_verdict_is_told_written_and_comes_out_again(
    serving: Installation, door: Door, logging: Workspace, ads: pd.DataFrame
) -> None:
    answers = load_predictor(Registry(logging).asked()).predict(ads)
    answer_ago(logging, THIS_WEEK + 3, ads, answers, now=NOW)
    run = door.start_pipeline(serving, MONITORING)
    assert run.wait() == 0, run.printed
    assert "verdict on version 1: ok" in run.printed
    assert figures(serving)["readings"]["answered.drift_region"]["rows"] == 600
    written = {path.name for path in (serving.reports.parent / "monitoring").iterdir()}
    assert {"monitoring.html", "decision.json", "demand.prom"} < written
    replayed = serving.demand("decisions", "replay")
    assert replayed.returncode == 0, replayed.stderr
    assert replayed.stdout == "1 of 1 decisions come out as they were made\n"


def test_a_champion_that_is_worse_than_the_one_before_is_rolled_back(
    serving: Installation, door: Door, logging: Workspace, ads: pd.DataFrame
) -> None:
    registry = Registry(logging)
    first = registry.asked()
    good, poor = load_predictor(first).predict(ads), flat(0.9, len(ads))
    model_id = log_model(
        start_run("training"), load_predictor(first), ads.head(8).drop(columns=TARGET)
    )
    kept = {"data_md5": "abc", "fingerprint": "another", "metrics": {}, "tags": {}}
    registry.promote(registry.register_challenger(model_id, **kept).version, "test")
    assert serving.demand("serve").returncode == 0
    assert serving.status()["champion"] == "2"
    # The end of the last week whose outcomes are due.
    due = NOW - datetime.timedelta(days=MATURE)
    newest = MATURE + due.weekday() + 3
    for week in range(2):
        other = new_ads(ads, f"week {week}")
        answer_ago(logging, newest + 7 * week, other, poor, "2", now=NOW, shadow=("1", good))
    run = door.start_pipeline(serving, MONITORING)
    assert run.wait() == 0, run.printed
    assert "verdict on version 2: alarm" in run.printed
    assert "version 1 is champion again, and serves" in run.printed
    assert (figures(serving)["verdict"], figures(serving)["rolled_back_to"]) == ("alarm", "1")
    status = serving.status()
    assert (status["champion"], status["healthy"]) == ("1", True)
    last = registry.history()[-1]
    assert (last.action, last.from_version) == ("rollback", "2")
    assert last.reason.startswith(f"decision {figures(serving)['id']}: worse than the one before")
    # It is judged anew, and nothing is done twice.
    run = door.start_pipeline(serving, MONITORING)
    assert run.wait() == 0, run.printed
    assert "verdict on version 1" in run.printed
    assert len(registry.history()) == 3
