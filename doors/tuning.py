"""``python run.py --pipeline tuning``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from demand.checks.run import require_known
from demand.config import TrainingConfig, load_config
from demand.errors import GateRefusal
from demand.tuning.reports import BEST_FILE, verdict
from demand.tuning.settings import TuningConfig
from demand.tuning.space import Space
from doors.ads import find_ads
from doors.reports import alone, leave_reports

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

# Trials that the table shows beside the base.
SHOWN = 3


def tune(arguments: argparse.Namespace, out: Console) -> int:
    """Run the tuning pipeline, alone in this installation."""
    settings = load_config(arguments.config, TuningConfig)
    base = load_config(arguments.config.parent / settings.base, TrainingConfig)
    require_known(base.checks)
    Space.of(base, settings.space)
    with alone("tuning") as folder:
        path = find_ads(arguments.data, base.data, out)
        trials = arguments.trials or settings.trials
        out.print(f"tuning on {path}, {trials} trials", markup=False, soft_wrap=True)
        try:
            metrics, table = run_pipeline(
                path, base, settings, trials, not arguments.no_cache, folder
            )
        except KeyboardInterrupt:
            anew = ", if without --no-cache" if arguments.no_cache else ""
            out.print(f"the same command goes on where this one ended{anew}")
            raise
        show(out, metrics, table, folder, arguments.data)
    return 0


def run_pipeline(
    path: Path,
    base: TrainingConfig,
    settings: TuningConfig,
    trials: int,
    cached: bool,
    folder: Path,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Run the steps and return the search's figures and its table of trials."""
    from demand.ingestion.reading import ads_md5
    from pipelines.interrupts import interrupted_between_transactions
    from pipelines.runs import new_run_name, scratch_folder
    from pipelines.tuning import tuning
    from steps.served_model import ensure_stack

    md5 = ads_md5(path, base.data.max_file_gb)
    name = new_run_name("tuning")
    with interrupted_between_transactions(), scratch_folder():
        ensure_stack()
        try:
            tuning.with_options(run_name=name, enable_cache=cached)(
                str(path.resolve()), md5, base, settings, trials, not cached
            )
        except GateRefusal:
            leave_reports(name, folder)
            raise
        run, _ = leave_reports(name, folder)
    outputs = run.steps["tune"].outputs
    return outputs["metrics"][0].load(), outputs["trials"][0].load()


def show(
    out: Console, metrics: dict[str, Any], trials: pd.DataFrame, folder: Path, data: Path | None
) -> None:
    """Print the best trials beside the base, what that is worth, and how to train with it."""
    out.print(best_table(trials))
    out.print(
        f"{metrics['trials_finished']} trials finished, {metrics['trials_pruned']} pruned, "
        f"{metrics['trials_failed']} failed; mean RMSE over {metrics['folds']} folds: "
        f"best {metrics['best_rmse']:.5f}, base {metrics['base_rmse']:.5f}",
        soft_wrap=True,
    )
    out.print(verdict(metrics), soft_wrap=True)
    if metrics["best_trial"]:
        out.print("train with it:" if metrics["better_than_noise"] else "train with it anyway:")
        out.print(training_command(folder / BEST_FILE, data), soft_wrap=True, markup=False)
    out.print(f"reports: {folder}", soft_wrap=True, markup=False)


def best_table(trials: pd.DataFrame) -> Table:
    """Return the base and the best finished trials, a column each."""
    finished = trials[trials["state"] == "finished"]
    ranked = finished[finished["trial"] > 0].sort_values("rmse", kind="stable").head(SHOWN)
    table = Table(Column("", overflow="fold"), "base", *(f"trial {n}" for n in ranked["trial"]))
    shown = [trials.iloc[0], *(row for _, row in ranked.iterrows())]
    table.add_row("mean RMSE", *(f"{row['rmse']:.5f}" for row in shown))
    for key in (column for column in trials if "." in str(column)):
        table.add_row(str(key), *(str(row[key]) for row in shown))
    return table


def training_command(config: Path, data: Path | None) -> str:
    """Return the command that trains with a config, as it can be pasted."""
    command = ["python", "run.py", "--pipeline", "training"]
    if data is not None:
        command += ["--data", str(data)]
    near = config.relative_to(Path.cwd()) if config.is_relative_to(Path.cwd()) else config
    return shlex.join([*command, "--config", str(near)])
