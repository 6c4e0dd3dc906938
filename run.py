#!/usr/bin/env python3
"""The door to the pipelines: ``python run.py --pipeline training``.

Exit status: 0 deployed (or promoted, with --no-deploy), tuned, answered, or measured; 1 an
error; 2 a gate said no and what served still serves; 64 wrong usage; 130 stopped by Ctrl-C
or SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from demand.doors import DEBUG, Parser, guarded
from demand.progress import QUIET, console
from demand.state import PROJECT_ROOT
from doors.batch import answer
from doors.production import ROWS, evaluate
from doors.training import train
from doors.tuning import tune

DOORS = {
    "training": train,
    "tuning": tune,
    "batch-inference": answer,
    "production-evaluation": evaluate,
}
# What only one pipeline understands.
OPTIONS_OF = {
    "training": ("no_deploy", "no_promote"),
    "tuning": ("trials",),
    "batch-inference": ("output", "model"),
    "production-evaluation": ("url", "rows"),
}
# What a pipeline cannot do without.
REQUIRED_BY = {"batch-inference": ("data", "output"), "production-evaluation": ("data",)}
# Of the pipelines without a config of their own, which heed `data.max_file_gb`, `gate` and `seed`.
CONFIG = PROJECT_ROOT / "configs" / "training.yaml"
CONFIG_OF = {"tuning": PROJECT_ROOT / "configs" / "tuning.yaml"}
EXAMPLES = """examples:
  python run.py --pipeline training
  python run.py --pipeline training --data ads.csv --config my.yaml --no-deploy
  python run.py --pipeline tuning --trials 50 --data ads.csv
  python run.py --pipeline batch-inference --data ads.csv --output answers.csv
  python run.py --pipeline production-evaluation --data labelled.csv

batch-inference writes item_id,deal_probability, one row an ad, in the order of the file.
A cell that cannot be read or is out of bounds counts as missing; an ad without a title or a
category_name keeps its row with an empty deal_probability. Warnings count both and name the
first of them by line.

production-evaluation ends with 2 where the deployed model does not answer as the registered
one does.
"""


def parser() -> Parser:
    """Return the parser of the command line; :func:`parsed` checks what it cannot."""
    arguments = Parser(
        prog="run.py", description="Run a pipeline of avito-demand.", epilog=EXAMPLES
    )
    add = arguments.add_argument
    add("--pipeline", required=True, choices=tuple(DOORS), help="which pipeline")
    add(
        "--data",
        type=Path,
        metavar="FILE",
        help="ads as csv, csv.gz, zip or parquet (training, tuning: default: the demo ads)",
    )
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="parameters (default: configs/training.yaml; tuning: configs/tuning.yaml)",
    )
    add("--no-deploy", action="store_true", help="training: stop after promotion")
    add(
        "--no-promote",
        action="store_true",
        help="training: stop after evaluation, as for an experiment",
    )
    add(
        "--trials",
        type=count,
        metavar="N",
        help="tuning: how many configs, those of an interrupted search included",
    )
    add("--output", type=Path, metavar="FILE", help="batch-inference: CSV file of answers")
    add("--model", metavar="VERSION", help="batch-inference: which version (default: the champion)")
    add(
        "--url",
        help="production-evaluation: ends in /invocations (MLflow) or /predict (Flask API) "
        "(default: the active deployment)",
    )
    add(
        "--rows",
        type=count,
        metavar="N",
        help=f"production-evaluation: so many ads, drawn by chance (default: {ROWS})",
    )
    add(
        "--no-cache",
        action="store_true",
        help="run every step anew; a search forgets its trials",
    )
    add("--quiet", action="store_true", help="print errors only")
    add("--verbose", action="store_true", help="show ZenML's own messages, and tracebacks")
    return arguments


def count(text: str) -> int:
    """Return a whole number from 1, for the parser."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; an option of another pipeline is wrong usage, too."""
    known = parser()
    arguments = known.parse_args(argv)
    for pipeline, options in OPTIONS_OF.items():
        for option in options:
            if pipeline != arguments.pipeline and getattr(arguments, option):
                flag = "--" + option.replace("_", "-")
                known.error(f"{flag} belongs to --pipeline {pipeline}")
    for option in REQUIRED_BY.get(arguments.pipeline, ()):
        if getattr(arguments, option) is None:
            known.error(f"--pipeline {arguments.pipeline} needs --{option}")
    if arguments.config is None:
        arguments.config = CONFIG_OF.get(arguments.pipeline, CONFIG)
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


def main(argv: list[str] | None = None) -> int:
    """Parse, run, and turn every failure into one message and an exit status."""
    arguments = parsed(argv)
    prepare_environment(quiet=arguments.quiet, verbose=arguments.verbose)
    return guarded(lambda: DOORS[arguments.pipeline](arguments, console()))


if __name__ == "__main__":
    sys.exit(main())
