"""``metrics.json``: the figures of a training run, for people, DVC and other programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demand.workspace.workspace import read_json, write_json

METRICS_FILE = "metrics.json"
TIMINGS_FILE = "timings.json"


def training_report(
    metrics: Mapping[str, float], rows: Mapping[str, int], lineage: Mapping[str, str]
) -> dict[str, Any]:
    """Return the content of ``metrics.json`` for a model that is not deployed yet.

    Figures that are not finite become null, since JSON has no NaN.
    """
    figures = {k: v if math.isfinite(v) else None for k, v in sorted(metrics.items())}
    return {
        **figures,
        **rows,
        **lineage,
        "deployed": False,
        "model_version": None,
        "endpoint": None,
    }


def with_lineage(folder: Path, lineage: Mapping[str, str]) -> None:
    """Put the lineage of a run into the report, in the place of another run's."""
    path = folder / METRICS_FILE
    whole: dict[str, Any] = read_json(path)
    write_json(path, whole | {key: value for key, value in lineage.items() if key in whole})


def complete_report(folder: Path, version: str | None, endpoint: str | None) -> dict[str, Any]:
    """Add the champion's version and the endpoint, where there are; return the whole."""
    path = folder / METRICS_FILE
    whole: dict[str, Any] = read_json(path)
    whole |= {"model_version": version, "endpoint": endpoint, "deployed": endpoint is not None}
    write_json(path, whole)
    return whole
