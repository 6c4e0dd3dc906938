"""``python run.py --pipeline training``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from demand.checks.run import require_known
from demand.config import TrainingConfig, load_config
from demand.errors import GateRefusal
from doors.ads import demo_origin, find_ads
from doors.reports import alone, leave_reports

if TYPE_CHECKING:
    from rich.console import Console
    from zenml.models import PipelineRunResponse


def train(arguments: argparse.Namespace, out: Console) -> int:
    """Run the training pipeline, alone in this installation."""
    config = load_config(arguments.config, TrainingConfig)
    require_known(config.checks)
    with alone("training") as folder:
        train_alone(arguments, config, folder, out)
    return 0


def train_alone(
    arguments: argparse.Namespace, config: TrainingConfig, folder: Path, out: Console
) -> None:
    """Run the pipeline, now that no other run writes to the same places."""
    from demand.ingestion.reading import ads_md5
    from demand.reporting import complete_report
    from demand.versioning import record_training

    path = find_ads(arguments.data, config.data, out)
    md5 = ads_md5(path, config.data.max_file_gb)
    demo = demo_origin(path, md5, config.data)
    out.print(f"training on {path}" + (" (demo ads)" if demo else ""), markup=False)
    until = "evaluate" if arguments.no_promote else "promote" if arguments.no_deploy else "deploy"
    run, took = run_pipeline(path, md5, config, demo, until, not arguments.no_cache, folder)
    outputs = {name: step.outputs for name, step in run.steps.items()}
    version = endpoint = None
    if until != "evaluate":
        version = outputs["promote"]["champion_version"][0].load()
    if until == "deploy":
        endpoint = outputs["deploy"]["endpoint"][0].load()
    metrics = complete_report(folder, version, endpoint)
    record_training(path, arguments.config)
    show(out, metrics, took, folder)


def run_pipeline(
    path: Path,
    md5: str,
    config: TrainingConfig,
    demo: tuple[int, int] | None,
    until: Literal["evaluate", "promote", "deploy"],
    cached: bool,
    folder: Path,
) -> tuple[PipelineRunResponse, list[dict[str, Any]]]:
    """Run the steps and return the run and what its parts took."""
    from demand.lineage import model_fingerprint
    from demand.serving.registry import Registry
    from demand.serving.tracking import store_id
    from pipelines.interrupts import interrupted_between_transactions
    from pipelines.runs import new_run_name, scratch_folder
    from pipelines.training import training
    from steps.served_model import ensure_stack

    champion = Registry().champion()
    store = store_id()
    name = new_run_name("training")
    with interrupted_between_transactions(), scratch_folder():
        ensure_stack()
        try:
            training.with_options(run_name=name, enable_cache=cached)(
                str(path.resolve()),
                md5,
                config,
                model_fingerprint(md5, config),
                store,
                champion.version if champion else None,
                demo,
                until,
            )
        except GateRefusal:
            leave_reports(name, folder)
            raise
        return leave_reports(name, folder)


def show(out: Console, metrics: dict[str, Any], took: list[dict[str, Any]], folder: Path) -> None:
    """Print what was reached, what it took, and where to look."""
    table = Table("part", "seconds")
    for row in took:
        table.add_row(row["part"], "cached" if row["cached"] else f"{row['seconds']:.1f}")
    out.print(table)
    out.print(
        f"test RMSE {metrics['rmse']:.4f} on {metrics['rows_test']} ads "
        f"(threshold {metrics['threshold']}, mean predictor {metrics['baseline_rmse']:.4f})"
    )
    if "explained_share" in metrics:
        out.print(
            f"noise floor {metrics['noise_floor_rmse']:.4f}: "
            f"{metrics['explained_share']:.0%} of what can be explained is"
        )
    if metrics["model_version"]:
        out.print(f"champion: version {metrics['model_version']}")
    if metrics["endpoint"]:
        out.print(f"endpoint: {metrics['endpoint']}\ntry it:", soft_wrap=True)
        out.print(curl_line(metrics["endpoint"]), soft_wrap=True, markup=False)
    out.print(f"reports: {folder}", soft_wrap=True, markup=False)


def curl_line(endpoint: str) -> str:
    """Return a command that asks the endpoint about one ad, as it can be pasted."""
    ad = '{"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}'
    body = f'{{"dataframe_records": [{ad}]}}'
    return f"curl -s {endpoint} -H 'Content-Type: application/json' -d '{body}'"
