"""The readings of a model's windows: whole ones only, on a grid that does not move."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pandas as pd

from demand.monitoring.drift import drift_readings
from demand.monitoring.live_error import compared_reading, expected_rmse, outcome_readings
from demand.monitoring.rules import Reading, Window, Windows
from demand.production_log.config import MonitoringConfig, Series
from demand.production_log.store import ProductionLog

_FIRST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)  # a Monday
_AGAINST = "rmse_against_previous"
_NO_REFERENCE = Reading(missing="the champion was trained before references were kept")


def read_windows(
    log: ProductionLog,
    version: str,
    previous: str | None,
    reference: pd.DataFrame | None,
    config: MonitoringConfig,
    now: datetime.datetime,
    seed: int,
) -> Windows:
    """Read as many windows, of each series, as a rule looks at.

    ``version`` is the champion: the errors and predictions are its own, all else is of all ads.
    ``previous`` is the champion before, which answers as a shadow.
    The reference is that of :func:`demand.monitoring.reference.reference_of`.
    """
    settings = config.monitoring
    due = now - datetime.timedelta(days=settings.maturity_days)
    read: dict[Series, tuple[Window, ...]] = {"answered": (), "mature": ()}
    for start, end in _spans(now, settings.window_days, _most(config, "answered")):
        ads = _once(log.entries(start, end))
        own = ads[ads["model_version"] == version]
        readings = _unread(config, "answered")
        if reference is not None:
            readings = drift_readings(ads, own, reference)
            readings["rmse_expected"] = expected_rmse(own["deal_probability"].to_numpy(), reference)
        read["answered"] += (_window(start, end, readings),)
    for start, end in _spans(due, settings.window_days, _most(config, "mature")):
        ads = _once(log.mature_entries(start, end, now))
        own = ads[ads["model_version"] == version]
        readings = _unread(config, "mature")
        if reference is not None:
            readings = outcome_readings(own, reference, settings, seed)
        readings[_AGAINST] = Reading(missing="there was no champion before")
        if previous is not None:
            before = log.mature_entries(start, end, now, shadow=True)
            before = before[before["model_version"] == previous]
            readings[_AGAINST] = compared_reading(own, before, settings, seed)
        read["mature"] += (_window(start, end, readings),)
    return read


def _unread(config: MonitoringConfig, series: Series) -> dict[str, Reading]:
    return {rule.reading: _NO_REFERENCE for rule in config.rules if rule.series == series}


def _most(config: MonitoringConfig, series: Series) -> int:
    return max((rule.of for rule in config.rules if rule.series == series), default=1)


def _spans(
    until: datetime.datetime, days: int, count: int
) -> Iterator[tuple[datetime.datetime, datetime.datetime]]:
    """Yield the last windows that have ended, the newest last."""
    length = datetime.timedelta(days=days)
    end = _FIRST + (until - _FIRST) // length * length
    for back in range(count - 1, -1, -1):
        yield end - (back + 1) * length, end - back * length


def _once(ads: pd.DataFrame) -> pd.DataFrame:
    """Keep the last answer to each ad of a version: a seller may ask many times."""
    named = ads["item_id"].notna()
    again = ads[named].duplicated(["item_id", "model_version"], keep="last")
    return ads.drop(index=again.index[again])


def _window(
    start: datetime.datetime, end: datetime.datetime, readings: dict[str, Reading]
) -> Window:
    return Window(start=f"{start:%Y-%m-%d}", end=f"{end:%Y-%m-%d}", readings=readings)
