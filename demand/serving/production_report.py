"""What was measured of a deployed model, for people: ``report.md``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from demand.batch import counted
from demand.evaluation.markdown import Markdown, bullets, escaped, table

REPORT_FILE = "report.md"

ERRORS = ("rmse", "mse", "mae")


def report(metrics: Mapping[str, Any]) -> str:
    """Return ``report.md``: the errors in production beside those of training, and the speed."""

    def shown(value: float | None) -> str:
        return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"

    training = metrics["training"]
    errors = [
        (
            name.upper(),
            shown(metrics[name]),
            f"{shown(metrics[f'{name}_low'])} – {shown(metrics[f'{name}_high'])}",
            shown(metrics[f"offline_{name}"]),
            shown(training.get(name)),
        )
        for name in ERRORS
    ]
    endpoint = str(metrics["endpoint"]).replace("`", "%60")
    requests = f"{counted(metrics['requests'], 'request')} of up to {metrics['ads_per_request']}"
    speed = [
        ("latency of a request, median", f"{metrics['latency_ms_p50']:.1f} ms"),
        ("latency of a request, 99th percentile", f"{metrics['latency_ms_p99']:.1f} ms"),
        ("throughput", f"{metrics['throughput_ads_per_s']:,.0f} ads/s"),
    ]
    heads = ("error", "production", f"{metrics['confidence']:.0%} interval", "offline", "training")
    notes = bullets(metrics["warnings"]) or Markdown("None.")
    return f"""# Production evaluation

Version {escaped(metrics["model_version"])} of the model, at `{endpoint}`,
answered {counted(metrics["n"], "labelled ad")} over HTTP.

**{"Passed" if metrics["passed"] else "Refused"}**: {escaped(metrics["reason"])}.

Table 1: errors, lower is better. *Offline* is the registered model on the same ads, without a
server; *training* its test ads, before its refit on all ads. Intervals are drawn by seller.

{table(heads, errors)}

Table 2: speed of {requests} ads, one after another over one connection.

{table(("measure", "value"), speed)}

## Warnings

{notes}
"""
