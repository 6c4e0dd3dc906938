"""What production tells of the champion: read, judged, written down."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from demand.errors import StateError
from demand.monitoring import decisions
from demand.monitoring.rules import VERDICTS, Decision, Reading, decide
from demand.monitoring.windows import read_windows
from demand.production_log.config import MonitoringConfig, Series
from demand.production_log.store import LOG_URL, OFF, current_log
from demand.registry.model_files import read_reference
from demand.registry.registry import Registry
from demand.registry.versions import told_previous
from demand.reports import markdown, plots
from demand.reports.pages import environment
from demand.workspace.workspace import current_workspace, write_aside, write_json

METRICS_FILE, REPORT_FILE, GAUGES_FILE = "metrics.json", "monitoring.html", "demand.prom"
SERIES_TITLES: Mapping[Series, str] = {
    "answered": "Ads that were answered",
    "mature": "Ads whose outcomes are due",
}


@dataclass(frozen=True)
class Monitored:
    """A decision on a version, the figures of ``metrics.json``, and all of it as Markdown."""

    version: str
    decision: Decision
    metrics: dict[str, Any]
    report: str


def monitor(config: MonitoringConfig, seed: int, now: datetime.datetime) -> Monitored:
    """Judge the champion by what is in the log, and add the decision to those before.

    Raises
    ------
    ModelError
        There is no champion, or its files are damaged.
    StateError
        There is no log, or it cannot be read.
    """
    champion, log = Registry().asked(), current_log()
    if log is None:
        raise StateError(f"nothing is logged, so nothing is known: {LOG_URL} is {OFF}")
    reference = read_reference(champion)
    before = told_previous(current_workspace())
    versions = champion.version, None if before is None else before.version
    windows = read_windows(log, *versions, reference, config, now, seed)
    subject = f"version {champion.version}"
    decision = decide(subject, config.rules, windows, now.isoformat(timespec="seconds"))
    decisions.append(current_workspace().decisions, decision)
    told = figures(decision) | {"model_version": champion.version}
    return Monitored(champion.version, decision, told, report_of(decision))


def figures(decision: Decision) -> dict[str, Any]:
    """Return what ``metrics.json`` has: the verdict, each rule's, and the newest readings."""
    newest = {
        f"{series}.{name}": reading.model_dump(exclude_none=True)
        for series, windows in decision.windows.items()
        for window in windows[-1:]
        for name, reading in window.readings.items()
    }
    found = [each.model_dump(include=_FINDING) for each in decision.findings]
    return decision.model_dump(include=_DECISION) | {"findings": found, "readings": newest}


_DECISION = {"id", "inputs_md5", "at", "subject", "verdict"}
_FINDING = {"rule", "verdict", "state", "told"}


def report_of(decision: Decision) -> str:
    """Return the decision and all readings behind it as Markdown, with plots in it."""
    template = environment().overlay(finalize=markdown.escaped).get_template("monitoring.md.j2")
    rules = [(each.rule, each.state, each.verdict, each.told) for each in decision.findings]
    tables = {SERIES_TITLES[series]: _table(decision, series) for series in ("answered", "mature")}
    drawn = {
        SERIES_TITLES[series]: plots.readings(_values(decision, series), _limits(decision, series))
        for series in ("answered", "mature")
        if _values(decision, series).size
    }
    text = template.render(decision=decision, md=markdown, rules=rules, tables=tables, drawn=drawn)
    return f"{text}\n"


def _table(decision: Decision, series: Series) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows: a reading a row, a window a column."""
    windows = decision.windows[series]
    names = list(dict.fromkeys(name for window in windows for name in window.readings))
    nothing = Reading(missing="not read")
    rows = [[name, *(_shown(w.readings.get(name, nothing)) for w in windows)] for name in names]
    return ["reading", *(f"from {window.start}" for window in windows)], rows


def _shown(reading: Reading) -> str:
    if reading.value is None:
        return f"– ({reading.missing})"
    shown = markdown.number(reading.value)
    if reading.low is not None and reading.high is not None:
        shown += f" ({markdown.span(reading.low, reading.high)})"
    return f"{shown}, {markdown.counted(reading.rows, 'ad')}"


def _values(decision: Decision, series: Series) -> pd.DataFrame:
    """Return what was read, a window a row; NaN where nothing was."""
    read = {
        window.start: {name: reading.value for name, reading in window.readings.items()}
        for window in decision.windows[series]
    }
    frame = pd.DataFrame.from_dict(read, orient="index").astype("float64")
    return frame.dropna(axis="columns", how="all")


def _limits(decision: Decision, series: Series) -> dict[str, float]:
    return {rule.reading: rule.limit for rule in decision.rules if rule.series == series}


def write_report(found: Monitored, folder: Path) -> Path:
    """Write ``metrics.json``, ``decision.json``, page and gauges; return the page's path.

    The gauges are for Prometheus, by the textfile collector of node_exporter.
    """
    write_json(folder / METRICS_FILE, found.metrics)
    write_json(folder / "decision.json", json.loads(found.decision.model_dump_json()))
    page = folder / REPORT_FILE
    with write_aside(page) as aside:
        aside.write_text(markdown.markdown_page(found.report, "Monitoring"), encoding="utf-8")
    _write_gauges(found.decision, folder / GAUGES_FILE)
    return page


def _write_gauges(decision: Decision, path: Path) -> None:
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"demand_monitoring_{name}", text, labels, registry=registry)

    holds = gauge("verdict", "1 for the verdict that holds", "verdict")
    reading = gauge("reading", "newest reading", "series", "name")
    rows = gauge("ads", "ads behind the newest reading", "series", "name")
    for verdict in VERDICTS:
        holds.labels(verdict).set(verdict == decision.verdict)
    for series, windows in decision.windows.items():
        for name, read in windows[-1].readings.items() if windows else ():
            rows.labels(series, name).set(read.rows)
            if read.value is not None:
                reading.labels(series, name).set(read.value)
    write_to_textfile(str(path), registry)
