"""Commands about files of ads, and the dashboards."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from demand.commands.parsers import add_command, add_config, whole_number
from demand.config import TrainingConfig, load_config
from demand.errors import GateRefusal
from demand.progress import QUIET, rows_shown
from demand.state import reports_folder, write_json

if TYPE_CHECKING:
    from demand.commands.parsers import Commands

ROWS_MAX = 20_000_000
SEED_MAX = 2**32 - 1


def add_data(commands: Commands) -> None:
    """Add validate and demo."""
    validate = add_command(
        commands,
        "validate",
        "check a file of labelled ads, as the training pipeline does",
        "demand validate --data ads.csv",
        _validate,
    )
    validate.add_argument("--data", type=Path, required=True, metavar="FILE", help="ads")
    add_config(validate, "its section validation has the tolerances")
    settings = TrainingConfig().data
    demo = add_command(
        commands,
        "demo",
        "generate demo ads (made up, never real ones)",
        "demand demo --rows 100000 --seed 1 --output ads.csv",
        _demo,
    )
    rows, seed = whole_number(1, ROWS_MAX), whole_number(0, SEED_MAX)
    demo.add_argument("--rows", type=rows, default=settings.demo_rows, help="1 to 20 million")
    demo.add_argument("--seed", type=seed, default=settings.demo_seed, help="other seed, other ads")
    demo.add_argument("--output", type=Path, required=True, metavar="FILE", help="CSV to write")
    demo.add_argument("--quiet", action="store_true", help="no progress")


def add_dashboard(commands: Commands) -> None:
    """Add the dashboards."""
    dashboard = add_command(
        commands,
        "dashboard",
        "ZenML's dashboard and MLflow's UI, until Ctrl-C",
        "demand dashboard",
        _dashboard,
    )
    port = whole_number(1, 65535)
    dashboard.add_argument("--zenml-port", type=port, default=8237, help="default: 8237")
    dashboard.add_argument("--mlflow-port", type=port, default=5000, help="default: 5000")


def _validate(arguments: argparse.Namespace) -> int:
    from demand.expectations.validation import validate_ads
    from demand.ingestion.reading import read_ads

    config = load_config(arguments.config, TrainingConfig)
    loaded = read_ads(arguments.data, max_file_gb=config.data.max_file_gb)
    if loaded.ignored_columns:
        # repr keeps a name that is empty or has a line break in it legible.
        print(f"warning: ignored columns: {', '.join(map(repr, loaded.ignored_columns))[:300]}")
    reports = reports_folder("validation")
    found = validate_ads(
        loaded.frame, loaded.unparsed, config.validation, reports, lines=loaded.lines
    )
    write_json(reports / "summary.json", found.summary)
    if found.refusal is not None:
        raise GateRefusal("data", found.refusal)
    for warning in found.warnings:
        print(f"warning: {warning}")
    print(
        f"{len(found.accepted)} of {len(loaded.frame)} ads accepted; Data Docs: {found.docs_html}"
    )
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from demand.demo import write_demo

    if arguments.quiet:
        os.environ[QUIET] = "1"
    with rows_shown("demo ads", arguments.rows) as progress:
        md5 = write_demo(arguments.output, arguments.rows, arguments.seed, progress)
    print(f"{arguments.rows} demo ads in {arguments.output}, md5 {md5}")
    return 0


def _dashboard(arguments: argparse.Namespace) -> int:
    from demand.dashboard.run import run_dashboard

    return run_dashboard(arguments.zenml_port, arguments.mlflow_port)
