"""``python run.py --pipeline production-evaluation``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from demand.config import TrainingConfig, load_config
from demand.errors import GateRefusal
from demand.reporting import METRICS_FILE
from demand.state import read_json
from doors.reports import alone, leave_reports

if TYPE_CHECKING:
    from rich.console import Console

ROWS = 10_000


def evaluate(arguments: argparse.Namespace, out: Console) -> int:
    """Send labelled ads through the deployed endpoint, and compare with the registered model."""
    from demand.ingestion.reading import ads_md5
    from demand.serving.production import endpoint_at

    config = load_config(arguments.config, TrainingConfig)
    with alone("production-evaluation") as folder:
        # What is bound to fail fails now, and not after ZenML has started.
        ads_md5(arguments.data, config.data.max_file_gb)
        url = endpoint_at(arguments.url).url
        out.print(f"sending ads of {arguments.data} to {url}", markup=False, soft_wrap=True)
        try:
            run_pipeline(arguments, config, folder)
        finally:
            # A gate that refuses leaves its figures, too.
            if (folder / METRICS_FILE).exists():
                show(out, read_json(folder / METRICS_FILE), folder)
    return 0


def run_pipeline(arguments: argparse.Namespace, config: TrainingConfig, folder: Path) -> None:
    """Run the pipeline, and leave its reports and timings."""
    from pipelines.interrupts import interrupted_between_transactions
    from pipelines.production_evaluation import production_evaluation
    from pipelines.runs import new_run_name, scratch_folder
    from steps.served_model import ensure_stack

    name = new_run_name("production-evaluation")
    with interrupted_between_transactions(), scratch_folder():
        ensure_stack()
        try:
            production_evaluation.with_options(run_name=name)(
                str(arguments.data.resolve()),
                arguments.url,
                arguments.rows or ROWS,
                config.gate,
                config.seed,
                config.data.max_file_gb,
            )
        except GateRefusal:
            leave_reports(name, folder)
            raise
        leave_reports(name, folder)


def show(out: Console, metrics: dict[str, Any], folder: Path) -> None:
    """Print the errors beside those of training, the speed, and where to read more."""
    table = Table(
        "error", "production", f"{metrics['confidence']:.0%} interval", "offline", "training"
    )
    for name in ("rmse", "mse", "mae"):
        table.add_row(
            name.upper(),
            f"{metrics[name]:.4f}",
            f"{metrics[f'{name}_low']:.4f} – {metrics[f'{name}_high']:.4f}",
            _figure(metrics[f"offline_{name}"]),
            _figure(metrics["training"].get(name)),
        )
    out.print(table)
    for warning in metrics["warnings"]:
        out.print(f"warning: {warning}", markup=False, soft_wrap=True)
    out.print(
        f"version {metrics['model_version']} answered {metrics['n']:,} ads in "
        f"{metrics['requests']} requests: {metrics['latency_ms_p50']:.1f} ms median, "
        f"{metrics['latency_ms_p99']:.1f} ms 99th percentile, "
        f"{metrics['throughput_ads_per_s']:,.0f} ads/s",
        markup=False,
        soft_wrap=True,
    )
    if metrics["max_difference"] is not None:
        out.print(
            f"furthest from the registered model's own answer: {metrics['max_difference']:.2g}",
            soft_wrap=True,
        )
    out.print(f"reports: {folder}", markup=False, soft_wrap=True)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
