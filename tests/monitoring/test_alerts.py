"""Alerts told to real receivers over HTTP: answering, dead, hanging."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from demand.errors import ConfigError, StateError
from demand.monitoring.alerts import (
    URLS,
    Alert,
    Receiver,
    configured_receivers,
    failing,
    firing,
    notify,
    receivers,
    send_test,
)
from demand.production_log.config import AlertSettings
from demand.serving.http.server import LOOPBACK, free_port
from demand.workspace.workspace import PROJECT_ROOT
from tests import receiver as real
from tests.served import wait_for

DRIFT = Alert("drift/price", "watch", "prices drift", "median 900 instead of 500", "decision-7")
SETTINGS = AlertSettings(repeat_hours=24.0, timeout_s=10.0)
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(URLS, raising=False)
    return tmp_path / "home"


@pytest.fixture
def webhook() -> Iterator[real.Receiver]:
    with real.receiving() as started:
        yield started


def at(*webhooks: real.Receiver) -> list[Receiver]:
    return [*receivers([f"json://{each.address}/{SECRET}" for each in webhooks], "the test")]


def dead() -> list[Receiver]:
    return [*receivers([f"json://user:{SECRET}@{LOOPBACK}:{free_port(27400)}"], "the test")]


def tell(alerts: list[Alert], to: Sequence[Receiver], hours: float = 0.0, source: str = "m") -> int:
    return notify(source, alerts, to, SETTINGS, now=START + datetime.timedelta(hours=hours))


def titles(webhook: real.Receiver) -> list[str]:
    return [message["title"] for message in webhook.got]


def test_a_message_says_what_how_bad_and_which_decision(webhook: real.Receiver) -> None:
    assert tell([DRIFT], at(webhook)) == 1
    (message,) = webhook.got
    assert (message["title"], message["type"]) == ("watch: prices drift", "info")
    assert message["message"] == "m: median 900 instead of 500\ndecision decision-7"


def test_what_lasts_is_told_again_only_after_the_hours(webhook: real.Receiver) -> None:
    sent = [tell([DRIFT], at(webhook), hours) for hours in (0, 1, 23.9, 24, 25)]
    assert sent == [1, 0, 0, 1, 0]


def test_what_gets_worse_is_told_at_once_and_what_gets_better_is_not(
    webhook: real.Receiver,
) -> None:
    for severity in ("watch", "alarm", "retrain"):
        tell([Alert("k", severity, "t", "x")], at(webhook))
    assert titles(webhook) == ["watch: t", "alarm: t"]


def test_what_is_over_is_told_once_and_firing_again_is_new(webhook: real.Receiver) -> None:
    for alerts in ([DRIFT], [], [], [DRIFT]):
        tell(alerts, at(webhook))
    once = "watch: prices drift"
    assert titles(webhook) == [once, "over: prices drift", once]
    assert webhook.got[1]["type"] == "success"


def test_a_source_ends_only_its_own_alerts(webhook: real.Receiver) -> None:
    tell([DRIFT], at(webhook), source="monitoring")
    assert tell([], at(webhook), source="training") == 0
    assert [each.source for each in firing()] == ["monitoring"]


def test_without_receivers_what_fires_is_kept_and_told_to_the_first_one(
    webhook: real.Receiver,
) -> None:
    tell([DRIFT], [])
    (found,) = firing()
    assert (found.alert, found.since, found.receivers_told) == (DRIFT, START.isoformat(), 0)
    assert tell([DRIFT], at(webhook), 1) == 1


def test_what_nobody_knew_of_ends_in_silence(webhook: real.Receiver) -> None:
    tell([DRIFT], [])
    assert tell([], at(webhook)) == 0
    assert firing() == []


def test_a_dead_receiver_stops_nobody_is_said_once_and_counted(
    webhook: real.Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    to = [*dead(), *at(webhook)]
    assert [tell([DRIFT], to, hour) for hour in (0, 1, 2)] == [1, 0, 0]
    (count,) = failing()
    assert (count.failures, count.since) == (3, START.isoformat())
    told = capfd.readouterr().err
    assert told.count("did not reach JSON, URL 1 of the test") == 1


def test_what_did_not_arrive_is_sent_when_the_receiver_is_back(webhook: real.Receiver) -> None:
    webhook.status = 500
    assert tell([DRIFT], at(webhook)) == 0
    assert len(failing()) == 1
    webhook.status = 200
    assert tell([DRIFT], at(webhook)) == 1
    assert failing() == []


def test_the_end_is_told_later_where_the_receiver_was_dead_then(webhook: real.Receiver) -> None:
    tell([DRIFT], at(webhook))
    webhook.status = 500
    tell([], at(webhook))
    webhook.status = 200
    assert tell([], at(webhook)) == 1
    assert titles(webhook)[-1] == "over: prices drift"


# The time-out of Apprise itself is longer: 4 s to the first byte, and none to the last.
HANGS = """
from demand.production_log.config import AlertSettings
from demand.monitoring.alerts import Alert, notify, receivers
import sys
to = receivers(sys.argv[1:], "the test")
sent = notify("m", [Alert("k", "alarm", "t", "x")], to, AlertSettings(timeout_s=1.0))
print(sent, flush=True)
"""


def test_a_receiver_that_hangs_keeps_nobody_waiting_and_no_process_from_ending(
    webhook: real.Receiver,
) -> None:
    with real.receiving() as hanging:
        hanging.answers.clear()
        urls = [f"json://{hanging.address}/?rto=600", f"json://{webhook.address}"]
        command = [sys.executable, "-c", HANGS, *urls]
        done = subprocess.run(command, capture_output=True, timeout=60, cwd=PROJECT_ROOT)
    assert (done.returncode, done.stdout) == (0, b"1\n")
    assert titles(webhook) == ["alarm: t"]
    assert len(failing()) == 1


def test_killed_while_it_sends_it_has_lost_nothing(webhook: real.Receiver) -> None:
    webhook.answers.clear()
    command = [sys.executable, "-c", HANGS.replace("1.0", "60.0"), f"json://{webhook.address}"]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, start_new_session=True) as process:
        wait_for(lambda: len(firing()) == 1)
        os.killpg(process.pid, signal.SIGKILL)
    webhook.answers.set()
    lasting = [Alert("k", "alarm", "t", "x")]
    to = [*receivers([f"json://{webhook.address}"], "the test")]
    assert [tell(lasting, to), tell(lasting, to)] == [1, 0]


def test_no_secret_is_in_the_state_or_said(
    home: Path, webhook: real.Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    tell([DRIFT], [*dead(), *at(webhook)])
    files = [path.read_text() for path in home.rglob("*") if path.is_file()]
    assert any("prices drift" in text for text in files)
    said = capfd.readouterr()
    assert SECRET not in "".join(files) + said.out + said.err


def test_the_urls_are_those_of_the_environment_and_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URLS, "json://127.0.0.1:1 json://127.0.0.1:2")
    (tmp_path / "urls").write_text("json://127.0.0.1:3\n")
    found = configured_receivers(AlertSettings(urls_file=str(tmp_path / "urls")))
    assert [each.name for each in found] == [
        f"JSON, URL 1 of {URLS}",
        f"JSON, URL 2 of {URLS}",
        f"JSON, URL 1 of {tmp_path / 'urls'}",
    ]
    assert len({each.token for each in found}) == 3


def test_a_url_that_is_none_is_named_by_its_place_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(URLS, f"json://127.0.0.1 slak://{SECRET}")
    with pytest.raises(ConfigError, match=f"URL 2 of {URLS}") as error:
        configured_receivers(SETTINGS)
    assert SECRET not in str(error.value) + capfd.readouterr().err


def test_a_file_of_urls_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        configured_receivers(AlertSettings(urls_file=str(tmp_path / "absent")))


def test_a_broken_state_names_its_file(home: Path) -> None:
    home.mkdir()
    (home / "alerts.json").write_text("{")
    with pytest.raises(StateError, match=r"alerts\.json is not valid JSON"):
        tell([DRIFT], [])


def test_a_test_message_names_those_that_it_does_not_reach(webhook: real.Receiver) -> None:
    assert send_test([*at(webhook), *dead()], 10.0) == ["JSON, URL 1 of the test"]
    assert titles(webhook) == ["avito-demand: a test"]
    assert firing() == []
