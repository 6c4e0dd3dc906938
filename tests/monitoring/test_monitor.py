from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demand.config import load_config
from demand.errors import ModelError, StateError
from demand.monitoring.decisions import read, replay
from demand.monitoring.monitor import monitor, write_report
from demand.monitoring.reference import reference_of
from demand.monitoring.rules import Finding
from demand.production_log.config import MonitoringConfig
from demand.production_log.store import CONFIG
from demand.registry.packaging import log_model
from demand.registry.registry import Registry
from demand.registry.tracking import start_run
from demand.schema.columns import TARGET
from demand.workspace.workspace import Workspace, read_json
from tests.ads_factory import make_ads
from tests.monitoring.past import NOW, answer_ago, flat, new_ads
from tests.tiny_model import tiny_predictor

SETTINGS = load_config(CONFIG, MonitoringConfig)
# Of some hundred ads distances are large by chance.
RULES = [rule.model_copy(update={"rows_min": 100}) for rule in SETTINGS.rules]
CONFIG_OF_FEW = SETTINGS.model_copy(update={"rules": RULES})
ADS = make_ads(600, seed=8)
DAYS = 39  # ago: in the newest window whose outcomes are due


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEMAND_LOG_URL", raising=False)


def serve(*, with_reference: bool = True) -> None:
    answers = tiny_predictor().predict(ADS)
    model_id = log_model(
        start_run("training"),
        tiny_predictor(),
        ADS.head(8).drop(columns=TARGET),
        reference=reference_of(ADS, answers) if with_reference else None,
    )
    registry = Registry()
    kept = {"data_md5": "abc", "fingerprint": model_id, "metrics": {}, "tags": {}}
    registry.promote(registry.register_challenger(model_id, **kept).version, "test")


def findings(now: datetime.datetime = NOW) -> dict[str, Finding]:
    decision = monitor(CONFIG_OF_FEW, 1, now).decision
    return {found.rule: found for found in decision.findings}


def weeks_of(workspace: Workspace, ads: pd.DataFrame, answers: np.ndarray, count: int = 3) -> None:
    for week in range(count):
        answer_ago(workspace, DAYS + 7 * week, new_ads(ads, f"w{week}"), answers)


def just_after() -> datetime.datetime:
    """Return when the window of the answers is the last whole one."""
    return NOW - datetime.timedelta(days=DAYS - 5)


def test_without_a_champion_there_is_nothing_to_judge(workspace: Workspace) -> None:
    with pytest.raises(ModelError, match="there is no champion yet"):
        monitor(SETTINGS, 1, NOW)


def test_without_a_log_nothing_is_known(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    monkeypatch.setenv("DEMAND_LOG_URL", "off")
    with pytest.raises(StateError, match=r"nothing is logged.*DEMAND_LOG_URL is off"):
        monitor(SETTINGS, 1, NOW)


def test_an_empty_log_is_no_evidence(workspace: Workspace) -> None:
    serve()
    found = monitor(SETTINGS, 1, NOW)
    assert found.decision.verdict == "ok"
    assert {each.state for each in found.decision.findings} == {"unknown"}


def test_a_model_without_a_reference_is_told(workspace: Workspace) -> None:
    serve(with_reference=False)
    answer_ago(workspace, DAYS, ADS, tiny_predictor().predict(ADS))
    told = findings(just_after())["log_price drifts"].told
    assert "the champion was trained before references were kept" in told


def test_the_same_ads_are_well(workspace: Workspace) -> None:
    serve()
    weeks_of(workspace, ADS, tiny_predictor().predict(ADS))
    # Drift of the windows just past; errors once their outcomes are due.
    drift, errors = findings(just_after()), findings()
    del errors["worse than the one before"]  # there was none
    for rule in RULES:
        if rule.name not in errors:
            continue
        found = (drift if rule.series == "answered" else errors)[rule.name]
        assert found.state == "does not hold", found.told


def test_prices_that_rise_ask_for_a_new_model(workspace: Workspace) -> None:
    serve()
    dearer = ADS.assign(price=ADS["price"] * 9)
    weeks_of(workspace, dearer, tiny_predictor().predict(ADS), 1)
    assert findings(just_after())["log_price drifts"].state == "does not hold"  # one bad week
    weeks_of(workspace, dearer, tiny_predictor().predict(ADS), 2)
    found = findings(just_after())
    assert found["log_price drifts"].verdict == "retrain"
    assert [name for name, each in found.items() if each.verdict != "ok"] == ["log_price drifts"]


def test_answers_that_are_far_off_are_an_alarm(workspace: Workspace) -> None:
    serve()
    weeks_of(workspace, ADS, flat(0.99, len(ADS)))
    decision = monitor(CONFIG_OF_FEW, 1, NOW).decision
    assert decision.verdict == "alarm"
    held = {found.rule for found in decision.findings if found.state == "holds"}
    assert {"far worse than promised", "promises too much"} <= held


def test_answers_of_another_version_are_not_held_against_the_champion(workspace: Workspace) -> None:
    serve()
    answer_ago(workspace, DAYS, ADS, flat(0.99, len(ADS)), version="0")
    found = findings()
    assert found["far worse than promised"].state == "unknown"
    assert "it answered no ad whose outcome is due" in found["far worse than promised"].told


@pytest.mark.parametrize(("worse", "state"), [(True, "holds"), (False, "does not hold")])
def test_the_champion_is_compared_with_the_one_before_on_the_same_ads(
    workspace: Workspace, worse: bool, state: str
) -> None:
    serve()
    serve()
    good, poor = tiny_predictor().predict(ADS), flat(0.9, len(ADS))
    answers, others = (poor, good) if worse else (good, poor)
    for week in range(2):
        ads = new_ads(ADS, f"w{week}")
        answer_ago(workspace, DAYS + 7 * week, ads, answers, "2", shadow=("1", others))
    found = findings()["worse than the one before"]
    assert (found.state, found.evidence[-1].rows) == (state, len(ADS))
    # What nobody got has no say in anything else.
    assert findings()["far worse than promised"].evidence[-1].rows == len(ADS)


def test_without_a_champion_before_there_is_no_comparison(workspace: Workspace) -> None:
    serve()
    told = findings()["worse than the one before"].told
    assert told.endswith("there was no champion before")


def test_an_ad_that_is_asked_about_again_counts_once(workspace: Workspace) -> None:
    serve()
    answer_ago(workspace, DAYS, ADS, flat(0.99, len(ADS)))
    answer_ago(workspace, DAYS - 0.001, ADS, tiny_predictor().predict(ADS))
    found = findings()["far worse than promised"]
    assert (found.state, found.evidence[-1].rows) == ("does not hold", len(ADS))


def test_what_was_decided_is_kept_told_and_comes_out_again(
    workspace: Workspace, tmp_path: Path
) -> None:
    serve()
    weeks_of(workspace, ADS, flat(0.99, len(ADS)))
    found = monitor(CONFIG_OF_FEW, 1, NOW)
    page = write_report(found, tmp_path)
    assert [decision for _, decision in read(workspace.decisions)] == [found.decision]
    assert [each.problem for each in replay(workspace.decisions)] == [None]
    assert read_json(tmp_path / "metrics.json")["verdict"] == "alarm"
    text = page.read_text(encoding="utf-8")
    assert found.decision.id in text
    assert "far worse than promised" in text
    assert text.count("data:image/png") == 1  # nothing was answered in the last weeks
    gauges = (tmp_path / "demand.prom").read_text(encoding="utf-8")
    assert 'demand_monitoring_verdict{verdict="alarm"} 1.0' in gauges
    assert 'demand_monitoring_ads{name="rmse",series="mature"} 600.0' in gauges
    for ad in ("title", "description"):
        assert ADS[ad].dropna().iloc[0] not in text
