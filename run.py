#!/usr/bin/env python3
"""The door to the pipelines: ``python run.py --pipeline training``.

Exit status: 0 deployed (or promoted, with --no-deploy); 1 an error; 2 a gate said no and
what served still serves; 64 wrong usage; 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from demand.checks.run import require_known
from demand.config import DataSettings, TrainingConfig, load_config
from demand.doors import DEBUG, Parser, guarded
from demand.errors import GateRefusal
from demand.progress import QUIET, console
from demand.state import PROJECT_ROOT, exclusive, home, reports_folder, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from zenml.models import PipelineRunResponse

STARTED = time.perf_counter()
PIPELINES = ("training",)
EXAMPLES = """examples:
  python run.py --pipeline training
  python run.py --pipeline training --data ads.csv --config my.yaml --no-deploy
"""


def parser() -> Parser:
    """Return the parser of the command line."""
    arguments = Parser(
        prog="run.py", description="Run a pipeline of avito-demand.", epilog=EXAMPLES
    )
    arguments.add_argument("--pipeline", required=True, choices=PIPELINES, help="which pipeline")
    arguments.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="ads as csv, csv.gz, zip or parquet (default: the demo ads)",
    )
    arguments.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=PROJECT_ROOT / "configs" / "training.yaml",
        help="parameters (default: configs/training.yaml)",
    )
    arguments.add_argument("--no-deploy", action="store_true", help="stop after promotion")
    arguments.add_argument(
        "--no-promote", action="store_true", help="stop after evaluation, as for an experiment"
    )
    arguments.add_argument("--no-cache", action="store_true", help="run every step anew")
    arguments.add_argument("--quiet", action="store_true", help="print errors only")
    arguments.add_argument(
        "--verbose", action="store_true", help="show ZenML's own messages, and tracebacks"
    )
    return arguments


def prepare_environment(*, quiet: bool, verbose: bool) -> None:
    """Set what the libraries read when they are imported; the user's own values win."""
    if quiet:
        os.environ[QUIET] = "1"
    if verbose:
        os.environ[DEBUG] = "1"
    os.environ.setdefault("ZENML_ANALYTICS_OPT_IN", "false")
    os.environ.setdefault("ZENML_LOGGING_VERBOSITY", "INFO" if verbose else "CRITICAL")
    os.environ.setdefault("ZENML_ENABLE_RICH_TRACEBACK", "false")
    os.environ.setdefault("ZENML_ENABLE_REPO_INIT_WARNINGS", "false")
    os.environ.setdefault("ZENML_DISABLE_INTERACTIVE_INPUT", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


def find_ads(given: Path | None, settings: DataSettings, out: Console) -> Path:
    """Return the file to train on; the demo ads are generated where they are absent."""
    from demand.versioning import demo_file, ensure_demo_ads

    path = given or (Path(settings.file) if settings.file else None)
    if path is not None:
        return path
    demo = (settings.demo_rows, settings.demo_seed)
    return ensure_demo_ads(demo_file(*demo), *demo, out.print)


def demo_origin(path: Path, md5: str, settings: DataSettings) -> tuple[int, int] | None:
    """Return rows and seed of the demo ads if the file is those, so that the floor is known."""
    from demand.demo import DEFAULT_MD5
    from demand.versioning import demo_file

    default = DataSettings()
    if md5 == DEFAULT_MD5:
        return default.demo_rows, default.demo_seed
    asked = (settings.demo_rows, settings.demo_seed)
    is_asked = asked != (default.demo_rows, default.demo_seed) and path == demo_file(*asked)
    return asked if is_asked else None


def train(arguments: argparse.Namespace, out: Console) -> int:
    """Run the training pipeline, alone in this installation."""
    config = load_config(arguments.config, TrainingConfig)
    require_known(config.checks)
    folder = reports_folder("training")
    with contextlib.ExitStack() as locks:
        locks.enter_context(exclusive(home().locks / "training.lock", "training"))
        locks.enter_context(exclusive(folder.parent / ".locks" / "training.lock", "training"))
        train_alone(arguments, config, folder, out)
    return 0


def train_alone(
    arguments: argparse.Namespace, config: TrainingConfig, folder: Path, out: Console
) -> None:
    """Run the pipeline, now that no other run writes to the same places."""
    from demand.ingestion.reading import ads_md5
    from demand.reporting import complete_report
    from demand.versioning import record_training

    # Reports of an earlier run must not pass for those of a run that is refused.
    clear(folder)
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
    from pipelines.runs import scratch_folder
    from pipelines.training import training
    from steps.served_model import ensure_stack

    champion = Registry().champion()
    store = store_id()
    with interrupted_between_transactions(), scratch_folder():
        ensure_stack()
        try:
            training.with_options(enable_cache=cached)(
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
            leave_reports(folder)
            raise
        return leave_reports(folder)


def leave_reports(folder: Path) -> tuple[PipelineRunResponse, list[dict[str, Any]]]:
    """Publish what the run that just ended took from the cache, and its timings."""
    from demand.reporting import TIMINGS_FILE
    from pipelines.runs import latest_run, restore_cached_reports, timings

    run = latest_run()
    restore_cached_reports(run, folder)
    took = timings(run, time.perf_counter() - STARTED)
    write_json(folder / TIMINGS_FILE, took)
    return run, took


def clear(folder: Path) -> None:
    """Remove the reports of the run before; what it logged to MLflow and ZenML stays."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


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


def main(argv: list[str] | None = None) -> int:
    """Parse, run, and turn every failure into one message and an exit status."""
    arguments = parser().parse_args(argv)
    prepare_environment(quiet=arguments.quiet, verbose=arguments.verbose)
    return guarded(lambda: train(arguments, console()))


if __name__ == "__main__":
    sys.exit(main())
