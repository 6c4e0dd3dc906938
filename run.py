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

from cli.pipelines import ROWS, answer, evaluate, monitor, train, tune
from cli.terminal import (
    EXIT_INTERRUPTED,
    TRAINING_CONFIG,
    Parser,
    guarded,
    prepare_environment,
    whole_number,
)
from demand.progress import console
from demand.workspace.workspace import PROJECT_ROOT

DOORS = {
    "training": train,
    "tuning": tune,
    "batch-inference": answer,
    "production-evaluation": evaluate,
    "monitoring": monitor,
}
# What only one pipeline understands.
OPTIONS_OF = {
    "training": ("no_deploy", "no_promote", "metrics"),
    "tuning": ("trials",),
    "batch-inference": ("output", "model"),
    "production-evaluation": ("url", "rows"),
}
# What a pipeline cannot do without.
REQUIRED_BY = {"batch-inference": ("data", "output"), "production-evaluation": ("data",)}
# The others heed that of training, those without a config `data.max_file_gb`, `gate` and `seed`.
CONFIG_OF = {name: PROJECT_ROOT / "configs" / f"{name}.yaml" for name in ("tuning", "monitoring")}
EXAMPLES = """examples:
  python run.py --pipeline training
  python run.py --pipeline training --data ads.csv --config my.yaml --no-deploy
  python run.py --pipeline tuning --trials 50 --data ads.csv
  python run.py --pipeline batch-inference --data ads.csv --output answers.csv
  python run.py --pipeline production-evaluation --data labelled.csv
  python run.py --pipeline monitoring

batch-inference writes item_id,deal_probability, one row an ad, in the order of the file.
A cell that cannot be read or is out of bounds counts as missing; an ad without a title or a
category_name keeps its row with an empty deal_probability. Warnings count both and name the
first of them by line. An item_id that a spreadsheet would take for a formula has an
apostrophe put before it; others stay as they are.

production-evaluation ends with 2 where the deployed model does not answer as the registered
one does.

monitoring judges the champion by the production log: its verdict is ok, watch, retrain or alarm,
and each of them ends with 0.
"""


def parser() -> Parser:
    """Return the parser of the command line; :func:`parsed` checks what it cannot."""
    text = "Run a pipeline of avito-demand."
    arguments = Parser(prog="run.py", description=text, epilog=EXAMPLES)
    add, count = arguments.add_argument, whole_number(1, 10**9)
    add("--pipeline", required=True, choices=tuple(DOORS), help="which pipeline")
    text = "ads as csv, csv.gz, zip or parquet (training, tuning: default: the demo ads)"
    add("--data", type=Path, metavar="FILE", help=text)
    text = "parameters (default: configs/training.yaml; tuning, monitoring: their own)"
    add("--config", type=Path, metavar="FILE", help=text)
    add("--no-deploy", action="store_true", help="training: stop after promotion")
    text = "training: stop after evaluation, as for an experiment"
    add("--no-promote", action="store_true", help=text)
    text = "training: leave metrics.json and what is plotted there, too, for git and DVC"
    add("--metrics", type=Path, metavar="DIR", help=text)
    text = "tuning: how many configs, those of an interrupted search included"
    add("--trials", type=count, metavar="N", help=text)
    add("--output", type=Path, metavar="FILE", help="batch-inference: .csv or .parquet")
    add("--model", metavar="VERSION", help="batch-inference: which version (default: the champion)")
    text = "production-evaluation: ends in /invocations (MLflow) or /predict (Flask API) "
    add("--url", help=text + "(default: the active deployment)")
    text = f"production-evaluation: so many ads, drawn by chance (default: {ROWS})"
    add("--rows", type=count, metavar="N", help=text)
    text = "run every step anew; a search forgets its trials"
    add("--no-cache", action="store_true", help=text)
    add("--quiet", action="store_true", help="print errors only")
    add("--verbose", action="store_true", help="show ZenML's own messages, and tracebacks")
    return arguments


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
        arguments.config = CONFIG_OF.get(arguments.pipeline, TRAINING_CONFIG)
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Parse, run, and turn every failure into one message and an exit status."""
    arguments = parsed(argv)
    prepare_environment(quiet=arguments.quiet, verbose=arguments.verbose)
    status = guarded(lambda: DOORS[arguments.pipeline](arguments, console()))
    if status == EXIT_INTERRUPTED:
        # The thread that a signal left at work in a pipeline would hold up an orderly end.
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
