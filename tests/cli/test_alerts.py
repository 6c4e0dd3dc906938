from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from demand.monitoring.alerts import URLS, Alert, notify
from demand.production_log.config import AlertSettings
from tests.receiver import receiving

Captured = pytest.CaptureFixture[str]
DRIFT = Alert("drift/price", "retrain", "prices drift", "median 900 [eur] instead of 500")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv(URLS, raising=False)


def test_nothing_fires_at_first(capfd: Captured) -> None:
    assert main(["alerts"]) == 0
    assert capfd.readouterr().out == "nothing fires\n"


def test_what_fires_is_shown_since_when_and_how_bad(capfd: Captured) -> None:
    notify("monitoring", [DRIFT], [], AlertSettings())
    assert main(["alerts"]) == 0
    told = capfd.readouterr().out
    assert all(text in told for text in ("retrain", "monitoring", "prices drift", "900 [eur]"))
    assert main(["alerts", "--json"]) == 0
    (fires,) = json.loads(capfd.readouterr().out)["firing"]
    assert (fires["alert"]["key"], fires["receivers_told"]) == ("drift/price", 0)
    assert fires["since"] in told


def test_a_test_message_is_sent_to_those_that_a_config_names(
    tmp_path: Path, capfd: Captured
) -> None:
    with receiving() as receiver:
        (tmp_path / "urls").write_text(f"json://{receiver.address}")
        (tmp_path / "my.yaml").write_text(f"alerts:\n  urls_file: {tmp_path / 'urls'}\n")
        assert main(["alerts", "test", "--config", str(tmp_path / "my.yaml")]) == 0
    assert [message["title"] for message in receiver.got] == ["avito-demand: a test"]
    assert capfd.readouterr().out == f"reached: JSON, URL 1 of {tmp_path / 'urls'}\n"


def test_a_receiver_that_is_not_reached_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.setenv(URLS, "json://127.0.0.1:1")
    assert main(["alerts", "test"]) == 1
    assert capfd.readouterr().out == f"not reached: JSON, URL 1 of {URLS}\n"


def test_a_test_without_receivers_says_where_they_are_set(capfd: Captured) -> None:
    assert main(["alerts", "test"]) == 1
    assert f"set {URLS}, or alerts.urls_file" in capfd.readouterr().err
