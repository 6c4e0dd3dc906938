"""Alerts, their routing and the dashboard, judged by Prometheus' and Grafana's own programs."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from demand.serving.api.telemetry import Telemetry
from demand.workspace.workspace import PROJECT_ROOT
from tests.serving.api.test_api import Held

MONITORING = PROJECT_ROOT / "deployment" / "monitoring"
RULES, DASHBOARD = MONITORING / "alerts.yml", MONITORING / "dashboard.json"
RULE_TESTS = Path(__file__).with_name("alerts_test.yml")
OPERATIONS = PROJECT_ROOT / "docs" / "operations.md"


def run(*command: str | Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}: apt-get install prometheus prometheus-alertmanager")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def dashboard_queries() -> list[str]:
    """Return the queries of the dashboard with what Grafana puts in place of its variables."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return [query.replace("$__rate_interval", "1m") for query in queries]


def metric_names(queries: list[str]) -> set[str]:
    return {name for query in queries for name in re.findall(r"\bdemand_\w+", query)}


@pytest.fixture
def exposed() -> set[str]:
    """Return the names of all samples that the API tells at ``/metrics``."""
    telemetry = Telemetry(Held(None))
    telemetry.record("/predict", 200, 0.01, ads=1)
    lines = telemetry.text().decode().splitlines()
    # Of what has no labels the family is named even where there is no sample.
    families = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    return families | {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def test_prometheus_takes_its_config_and_the_rules() -> None:
    run("promtool", "check", "config", MONITORING / "prometheus.yml")


def test_alertmanager_takes_its_config() -> None:
    run("amtool", "check-config", MONITORING / "alertmanager.yml")


def test_each_alert_comes_when_it_must_and_not_before() -> None:
    run("promtool", "test", "rules", RULE_TESTS)


def test_no_alert_is_untested_or_unexplained() -> None:
    tested = RULE_TESTS.read_text(encoding="utf-8")
    explained = OPERATIONS.read_text(encoding="utf-8")
    for rule in rules():
        found = re.findall(rf"alertname: {rule['alert']}\b[^\n]*\n\s+exp_alerts:\n", tested)
        assert found, f"{RULE_TESTS.name} has no case in which {rule['alert']} comes"
        assert f"`{rule['alert']}`" in explained


@pytest.mark.parametrize("where", ["alerts", "dashboard"])
def test_every_metric_that_is_asked_for_is_one_of_the_api(exposed: set[str], where: str) -> None:
    queries = [rule["expr"] for rule in rules()] if where == "alerts" else dashboard_queries()
    asked = metric_names(queries)
    assert asked
    assert asked <= exposed


def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    records = [
        {"record": f"query_{n}", "expr": query} for n, query in enumerate(dashboard_queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    run("promtool", "check", "rules", "--lint=none", file)


def test_the_dashboard_is_what_its_program_makes() -> None:
    made = runpy.run_path(str(MONITORING / "dashboard.py"))["made"]()
    assert DASHBOARD.read_text(encoding="utf-8") == made


def test_grafanas_model_of_dashboards_reads_this_one() -> None:
    raw = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    board = Dashboard.from_json(raw)
    assert [panel.title for panel in board.panels or []] == [p["title"] for p in raw["panels"]]
