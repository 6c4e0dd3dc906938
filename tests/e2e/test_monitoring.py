"""The pipeline that judges what serves, against a model that was trained and deployed."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import pytest

from demand.data.reading import read_ads
from demand.registry.model_files import load_predictor
from demand.registry.registry import Registry
from demand.workspace.workspace import PROJECT_ROOT, Workspace, read_json
from tests.e2e.door import Door
from tests.e2e.installation import Installation
from tests.monitoring.past import answer_ago

pytestmark = pytest.mark.e2e


def test_a_verdict_is_told_written_and_comes_out_again(
    serving: Installation, door: Door, demo_ads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEMAND_LOG_URL", raising=False)
    serving.environment.pop("DEMAND_LOG_URL", None)
    workspace = Workspace(serving.home)
    champion = Registry(workspace).asked()
    ads = read_ads(demo_ads).frame.head(600)
    # In the last whole week, whichever day this is.
    now = datetime.datetime.now(datetime.UTC)
    answers = load_predictor(champion).predict(ads)
    answer_ago(workspace, now.weekday() + 3, ads, answers, champion.version, now=now)
    run = door.start_pipeline(serving, [sys.executable, "run.py", "--pipeline", "monitoring"])
    assert run.wait() == 0, run.printed
    assert "verdict on version 1: ok" in run.printed
    folder = serving.reports.parent / "monitoring"
    figures = read_json(folder / "metrics.json")
    assert figures["readings"]["answered.drift_region"]["rows"] == 600
    assert {"monitoring.html", "decision.json", "demand.prom"} < {p.name for p in folder.iterdir()}
    replayed = subprocess.run(
        [sys.executable, "-m", "cli.main", "decisions", "replay"],
        env=serving.environment,
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert replayed.returncode == 0, replayed.stderr
    assert replayed.stdout == "1 of 1 decisions come out as they were made\n"
