"""What ``demand alerts`` shows and tries."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from pathlib import Path

from rich.console import Console

from demand.config import load_config
from demand.errors import EXIT_ERROR, ConfigError
from demand.monitoring.alerts import (
    URLS,
    configured_receivers,
    failing,
    firing,
    send_test,
)
from demand.production_log.config import MonitoringConfig
from demand.production_log.store import CONFIG
from demand.schema.error_text import counted


def show_alerts(*, as_json: bool) -> None:
    """Print what fires since when, and which receivers cannot be reached."""
    lasting, unreached = firing(), failing()
    if as_json:
        told = {
            "firing": [dataclasses.asdict(each) for each in lasting],
            "failing": [dataclasses.asdict(each) for each in unreached],
        }
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return
    out = Console(markup=False, highlight=False, soft_wrap=True)
    for each in lasting:
        told_to = counted(each.receivers_told, "receiver")
        head = f"{each.since}  {each.alert.severity:7}  {each.source}: {each.alert.title}"
        out.print(f"{head} (told to {told_to})")
        out.print(textwrap.indent(each.alert.text, "  "))
    if not lasting:
        out.print("nothing fires")
    for failed in unreached:
        times = f"{failed.failures} times since {failed.since}"
        out.print(f"not reached, {times}: {failed.receiver}")


def try_receivers(config: Path | None) -> int:
    """Send a test message to each receiver; an error names those it does not reach."""
    settings = load_config(config or CONFIG, MonitoringConfig).alerts
    to = configured_receivers(settings)
    if not to:
        raise ConfigError(f"nobody is to be told: set {URLS}, or alerts.urls_file in {CONFIG}")
    lost = send_test(to, settings.timeout_s)
    for each in to:
        print(f"{'not reached' if each.name in lost else 'reached'}: {each.name}")
    return EXIT_ERROR if lost else 0
