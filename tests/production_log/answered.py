"""What tests log."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from demand.production_log.config import LogSettings, MonitoringConfig, MonitoringSettings
from demand.production_log.entries import Answered
from demand.production_log.files import Files
from demand.production_log.store import ProductionLog
from demand.production_log.writer import LogWriter
from demand.schema.records import typed_records
from demand.workspace.workspace import Workspace

AD = {"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}
FULL = AD | {"description": "почти новый", "user_id": "u-1", "item_id": "i-1"}
SALT = b"s" * 32
LONG_AGO = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
FAR_AHEAD = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


def answered(
    *ads: dict[str, Any], request_id: str = "r-1", at: float = 1.7e9, probes: Collection[int] = ()
) -> Answered:
    """Return a request that was answered with 0, 0.1, 0.2 …"""
    probabilities = np.arange(len(ads)) / 10
    return Answered(at, request_id, "7", typed_records(ads), probabilities, probes)


def add(writer: LogWriter, *ads: dict[str, Any], **more: Any) -> None:
    made = answered(*ads, **more)
    writer.add(made.request_id, "7", made.ads, made.probabilities, made.probes)


def files(folder: Path, **settings: Any) -> Files:
    return Files(folder / "log", folder / "locks" / "log.lock", LogSettings(**settings))


def production_log(
    folder: Path, url: str | None = None, *, maturity_days: float = 30.0, **settings: Any
) -> ProductionLog:
    monitoring = MonitoringSettings(maturity_days=maturity_days)
    config = MonitoringConfig(log=LogSettings(**settings), monitoring=monitoring)
    return ProductionLog(Workspace(folder), config, url)
