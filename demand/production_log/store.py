"""The log of an installation: one interface, whether it is kept in files or in a database."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING

from demand.config import load_config
from demand.errors import ConfigError, StateError
from demand.production_log.config import MonitoringConfig
from demand.production_log.files import Files, SegmentSink, read_salt
from demand.production_log.outcomes import Outcome, OutcomeStore, join_outcomes
from demand.production_log.shadow import Shadow, ShadowModel
from demand.production_log.writer import LogWriter, Sink
from demand.workspace.workspace import PROJECT_ROOT, Workspace, current_workspace

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Engine

LOG_URL, OFF = "DEMAND_LOG_URL", "off"
CONFIG = PROJECT_ROOT / "configs" / "monitoring.yaml"


class ProductionLog:
    """Predictions and their outcomes: in files below the workspace, or in PostgreSQL.

    It is in the database of the URL, or in files where that is None. ConfigError: the URL is none
    of PostgreSQL's.
    """

    def __init__(
        self, workspace: Workspace, config: MonitoringConfig, url: str | None = None
    ) -> None:
        self._folder, self._config = workspace.production_log, config
        self._files = Files(self._folder, workspace.locks / "production-log.lock", config.log)
        self._database: Engine | None = None
        if url is not None:
            from demand.production_log.database import postgresql_engine

            self._database = postgresql_engine(url)

    def writer(
        self,
        count: Callable[[int, int], None] | None = None,
        shadow: Callable[[], ShadowModel | None] | None = None,
    ) -> LogWriter:
        """Return what logs the answers of one process; see :class:`LogWriter`."""
        sink: Sink = SegmentSink(self._files)
        if self._database is not None:
            from demand.production_log.database import DatabaseSink

            salt = partial(read_salt, self._folder)
            sink = DatabaseSink(self._database, salt, self._config.log.retention_days)
        rate = self._config.log.shadow_ads_per_s
        second = Shadow(shadow, rate) if shadow is not None and rate else None
        return LogWriter(sink, self._config.log.queue_ads, count, second)

    def entries(
        self,
        start: datetime.datetime,
        end: datetime.datetime,
        *,
        probes: bool = False,
        shadow: bool = False,
    ) -> pd.DataFrame:
        """Return what was answered with start <= at < end, the oldest first.

        A row an ad, columns of :data:`demand.production_log.entries.COLUMNS`. Probes are left out
        unless they are asked for; with ``shadow`` it is what a second model would have answered.
        StateError: the log cannot be read.
        """
        from sqlalchemy.exc import SQLAlchemyError

        if self._database is None:
            found = self._files.read(start, end)
        else:
            from demand.production_log.database import read_entries

            try:
                found = read_entries(self._database, start, end)
            except SQLAlchemyError as error:
                raise _unusable(error) from error
        entries: pd.DataFrame = found.to_pandas()
        kept = (entries["shadow"] == shadow) & (probes | ~entries["probe"])
        return entries[kept].reset_index(drop=True)

    def add_outcomes(self, outcomes: Iterable[Outcome]) -> int:
        """Keep outcomes and return how many came; StateError: they cannot be stored."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return self._outcomes.add(outcomes)
        except (SQLAlchemyError, OSError) as error:
            raise _unusable(error) from error

    def mature_entries(
        self,
        start: datetime.datetime,
        end: datetime.datetime,
        now: datetime.datetime | None = None,
        *,
        shadow: bool = False,
    ) -> pd.DataFrame:
        """Return :meth:`entries` that are old enough, with a column ``outcome``.

        That is NaN where none was reported. Younger ones are left out, with an outcome or without:
        deals are reported before it is known of an ad that it did not end in one, so that those
        with an outcome would be the fast deals.
        """
        from sqlalchemy.exc import SQLAlchemyError

        now = now or datetime.datetime.now(datetime.UTC)
        mature = now - datetime.timedelta(days=self._config.monitoring.maturity_days)
        entries = self.entries(start, min(end, mature), shadow=shadow)
        try:
            return join_outcomes(entries, self._outcomes.read())
        except (SQLAlchemyError, OSError) as error:
            raise _unusable(error) from error

    @cached_property
    def _outcomes(self) -> OutcomeStore:
        from demand.production_log.database import sqlite_engine

        if self._database is not None:
            return OutcomeStore(self._database)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return OutcomeStore(sqlite_engine(str(self._folder / "outcomes.db")))


def current_log(workspace: Workspace | None = None) -> ProductionLog | None:
    """Return the log that the environment names, None where it is off.

    ConfigError: ``DEMAND_LOG_URL`` is empty, as where a secret was not filled in, or no URL of
    PostgreSQL; or the config is wrong.
    """
    url = os.environ.get(LOG_URL)
    if url == OFF:
        return None
    if url == "":
        raise ConfigError(f"{LOG_URL} is empty: set it to a URL or to {OFF}, or unset it")
    config = load_config(CONFIG, MonitoringConfig) if CONFIG.exists() else MonitoringConfig()
    return ProductionLog(workspace or current_workspace(), config, url)


def _unusable(error: Exception) -> StateError:
    return StateError(f"the production log cannot be used: {str(error).splitlines()[0]}")
