"""The log as others see it: the same of files and of a real PostgreSQL."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import make_url, text

from demand.config import load_config
from demand.errors import ConfigError, StateError
from demand.production_log.config import MonitoringConfig
from demand.production_log.database import ENTRIES, OUTCOMES, postgresql_engine
from demand.production_log.entries import COLUMNS
from demand.production_log.outcomes import outcomes_from_json
from demand.production_log.store import CONFIG, ProductionLog, current_log
from demand.workspace.workspace import Workspace
from tests.production_log.answered import AD, FAR_AHEAD, FULL, LONG_AGO, add, production_log
from tests.production_log.postgresql import PASSWORD, Postgresql, postgresql
from tests.production_log.test_writer import Counts
from tests.served import wait_for

DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with postgresql() as running:
        yield running


@pytest.fixture
def database(server: Postgresql) -> str:
    """Return the URL of a database in which nobody has logged anything."""
    with postgresql_engine(server.url).begin() as connection:
        for table in (ENTRIES, OUTCOMES):
            connection.execute(text(f"DROP TABLE IF EXISTS {table.name}"))
    return server.url


@pytest.fixture(params=["files", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    if request.param == "files":
        return None
    found: str = request.getfixturevalue("database")
    return found


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def test_what_was_answered_is_read_back(tmp_path: Path, url: str | None) -> None:
    log, counts, begun = production_log(tmp_path, url), Counts(), now()
    writer = log.writer(counts)
    add(writer, FULL, AD, request_id="r-1")
    add(writer, AD, request_id="r-2", probes=(0,))
    writer.close()
    found = log.entries(begun, now())
    assert list(found) == list(COLUMNS)
    assert found["request_id"].tolist() == ["r-1", "r-1"]
    assert found["row"].tolist() == [0, 1]
    assert found["item_id"].tolist() == ["i-1", None]
    assert found["deal_probability"].tolist() == [0.0, 0.1]
    assert "description" in found["missing"][1]
    assert str(found["at"].dtype) == "datetime64[us, UTC]"
    assert found["at"].between(begun, now()).all()
    assert len(log.entries(begun, now(), probes=True)) == 3
    assert counts.written == 3


def test_only_the_span_is_read(tmp_path: Path, url: str | None) -> None:
    log = production_log(tmp_path, url)
    writer = log.writer()
    add(writer, AD)
    writer.close()
    (at,) = log.entries(LONG_AGO, FAR_AHEAD)["at"]
    assert len(log.entries(at, at + datetime.timedelta(microseconds=1))) == 1
    assert len(log.entries(at - DAY, at)) == 0


def test_outcomes_count_once_their_ads_are_mature(tmp_path: Path, url: str | None) -> None:
    log = production_log(tmp_path, url, maturity_days=10)
    writer = log.writer()
    add(writer, FULL, AD, AD, request_id="r-1")
    writer.close()
    reported = outcomes_from_json(
        [
            {"item_id": "i-1", "deal_probability": 1},
            {"request_id": "r-1", "row": 1, "deal_probability": 0.5},
            {"item_id": "of another site", "deal_probability": 1},
        ]
    )
    for _ in range(2):
        assert log.add_outcomes(reported) == 3
    assert len(log.mature_entries(LONG_AGO, FAR_AHEAD, now() + 9 * DAY)) == 0
    mature = log.mature_entries(LONG_AGO, FAR_AHEAD, now() + 11 * DAY)
    expected = pd.Series([1.0, 0.5, float("nan")], name="outcome")
    pd.testing.assert_series_equal(mature["outcome"], expected)


def test_old_entries_leave_the_database(tmp_path: Path, database: str) -> None:
    writer = production_log(tmp_path, database).writer()
    add(writer, AD, request_id="old")
    writer.close()
    with postgresql_engine(database).begin() as connection:
        connection.execute(ENTRIES.update().values(at=now() - 11 * DAY))
    log = production_log(tmp_path, database, retention_days=10)
    writer = log.writer()
    add(writer, AD, request_id="new")
    writer.close()
    assert log.entries(LONG_AGO, FAR_AHEAD)["request_id"].tolist() == ["new"]


def test_a_database_that_is_away_loses_entries_until_it_is_back(
    tmp_path: Path, server: Postgresql, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    log, counts = production_log(tmp_path, database), Counts()
    writer = log.writer(counts)
    add(writer, AD, request_id="before")
    wait_for(lambda: counts.written == 1)
    with caplog.at_level(logging.WARNING):
        server.stop()
        try:
            add(writer, AD, request_id="lost")
            wait_for(lambda: counts.dropped == 1)
            with pytest.raises(StateError, match="cannot be used"):
                log.add_outcomes(outcomes_from_json([{"item_id": "i", "deal_probability": 1}]))
        finally:
            server.start()
        add(writer, AD, request_id="after")
        writer.close()
    assert log.entries(LONG_AGO, FAR_AHEAD)["request_id"].tolist() == ["before", "after"]
    assert "not logged" in caplog.text
    assert PASSWORD not in caplog.text


def test_a_wrong_password_is_not_told(
    tmp_path: Path, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = make_url(database).set(password="an0ther")
    log, counts = production_log(tmp_path, wrong.render_as_string(False)), Counts()
    writer = log.writer(counts)
    add(writer, AD)
    writer.close()
    assert counts.dropped == 1
    with pytest.raises(StateError, match="cannot be used") as refused:
        log.entries(LONG_AGO, FAR_AHEAD)
    assert "an0ther" not in caplog.text + str(refused.value)


def test_the_environment_says_where_the_log_is(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMAND_LOG_URL", "off")
    assert current_log() is None
    monkeypatch.delenv("DEMAND_LOG_URL")
    log = current_log()
    assert isinstance(log, ProductionLog)
    writer = log.writer()
    add(writer, AD)
    writer.close()
    assert list(workspace.production_log.glob("*.jsonl"))


@pytest.mark.parametrize("url", ["", "s3cret", "mysql://demand:s3cret@localhost/x", "http://a b"])
def test_another_url_is_refused_and_not_told(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DEMAND_LOG_URL", url)
    with pytest.raises(ConfigError, match="DEMAND_LOG_URL") as refused:
        current_log()
    assert "s3cret" not in str(refused.value)


def test_the_config_says_what_holds_without_it() -> None:
    told = load_config(CONFIG, MonitoringConfig)
    assert told.model_copy(update={"rules": []}) == MonitoringConfig()
    # Without the file nothing is judged.
    assert told.rules
