"""How good are the predictions beside those of peers? ``python -m benchmarks.quality``.

Cross-validates the mean, category means, the report's MLP, ridge, LightGBM, CatBoost and
ours on the same folds of sellers; prints errors, costs, ours without each column,
calibration and coverage, and writes them below benchmarks/results. Exit status 0, or 1
where ours is worse than category means because the test ads lack a column.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.quality_folds import (
    Entry,
    Integers,
    Outcome,
    Step,
    cross_validate,
    seller_folds,
    steps_of,
)
from benchmarks.quality_ours import VARIANTS, our_entries
from benchmarks.quality_peers import peer_entries
from benchmarks.quality_report import Quality, show, write_quality
from benchmarks.quality_scores import (
    OURS,
    MissingColumn,
    missing_columns,
    out_of_fold_coverage,
    scores,
)
from demand.ads import TARGET
from demand.config import TrainingConfig, load_config
from demand.errors import ConfigError, DemandError
from demand.evaluation.baselines import CategoryMeans
from demand.ingestion.reading import read_ads
from demand.metrics import calibration_table
from demand.state import PROJECT_ROOT

RESULTS = PROJECT_ROOT / "benchmarks" / "results"
EXAMPLES = """examples:
  python -m benchmarks.quality --data ../shared/avito/ads.csv
  python -m benchmarks.quality --data ads.csv --models mean,ridge,ours --rows 2000
"""


def measure(
    ads: pd.DataFrame,
    entries: list[Entry],
    folds: int,
    seed: int,
    step: Step = lambda _name, _done: None,
) -> Quality:
    """Cross-validate entries on ads and return all that is to be said.

    Parameters
    ----------
    ads
        Typed ads with their target.
    seed
        Of the folds.
    step
        See :func:`benchmarks.quality_folds.cross_validate`.

    Raises
    ------
    ConfigError
        There are fewer sellers than folds.
    """
    sellers = int(ads["user_id"].nunique())
    if sellers < folds:
        raise ConfigError(f"the ads of {sellers} sellers cannot fill {folds} folds")
    fold = seller_folds(ads["user_id"], folds, seed)
    started = time.perf_counter()
    outcomes = list(cross_validate(entries, ads, fold, step))
    by_key = {outcome.entry.key: outcome for outcome in outcomes}
    about: dict[str, str | int] = {
        "ads": len(ads),
        "sellers": sellers,
        "folds": folds,
        "seed": seed,
        "minutes": f"{(time.perf_counter() - started) / 60:.1f}",
    }
    ours = {outcome.entry.name: outcome for key, outcome in by_key.items() if key in OURS}
    return Quality(
        about,
        scores(outcomes, ads, fold),
        _missing(by_key, ads, fold),
        {name: calibration_table(ads[TARGET], o.predicted[0]) for name, o in ours.items()},
        {name: out_of_fold_coverage(o, ads, fold) for name, o in ours.items()},
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 180)
    try:
        config = load_config(options.config, TrainingConfig)
        entries = chosen_entries([*peer_entries(), *our_entries(config)], options.models)
        ads = subsample(read_ads(options.data).frame, options.rows, options.seed)
        with _progress(steps_of(entries, options.folds), quiet=options.quiet) as step:
            quality = measure(ads, entries, options.folds, options.seed, step)
        written = write_quality(quality, options.results)
    except DemandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    show(console, quality.grids(), written)
    return 0 if all(item.passed for item in quality.missing) else 1


def chosen_entries(entries: list[Entry], keys: str | None) -> list[Entry]:
    """Return the entries that a list of keys names; without one all but the variants.

    Raises
    ------
    ConfigError
        A key is unknown; all known ones are named.
    """
    variants = {variant.key for variant in VARIANTS}
    if keys is None:
        return [entry for entry in entries if entry.key not in variants]
    asked = {key.strip() for key in keys.split(",")}
    known = [entry.key for entry in entries]
    if unknown := asked.difference(known):
        raise ConfigError(f"no model {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [entry for entry in entries if entry.key in asked]


def subsample(ads: pd.DataFrame, rows: int | None, seed: int) -> pd.DataFrame:
    """Return as many of the ads at random, in their order; all where there are no more."""
    if rows is None or rows >= len(ads):
        return ads
    kept = np.random.default_rng(seed).choice(len(ads), rows, replace=False)
    return ads.iloc[np.sort(kept)].reset_index(drop=True)


def _missing(by_key: dict[str, Outcome], ads: pd.DataFrame, fold: Integers) -> list[MissingColumn]:
    """Return ours without each column, of one seed where that was trained."""
    trained = [by_key[key] for key in OURS if key in by_key]
    if not trained:
        return []
    means = np.empty(len(ads))
    for number in np.unique(fold):
        here = fold == number
        means[here] = CategoryMeans().fit(ads[~here]).predict(ads[here])
    return missing_columns(trained[0], ads, means)


@contextlib.contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Step]:
    """Show a bar on a terminal, a line a model elsewhere, nothing when quiet."""
    out = Console(stderr=True, quiet=quiet, highlight=False)
    if not out.is_terminal:
        yield _line_a_model(out, total)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda name, done: bar.update(task, advance=1, description=f"{name}: {done}")


def _line_a_model(out: Console, total: int) -> Step:
    """Return what prints a line with the seconds so far when another model has begun."""
    started, steps, begun = time.perf_counter(), itertools.count(1), set[str]()

    def step(name: str, done: str) -> None:
        number = next(steps)
        if name not in begun:
            begun.add(name)
            seconds = time.perf_counter() - started
            out.print(f"  {name}: {done} ({number}/{total}, {seconds:.0f} s)", soft_wrap=True)

    return step


def _parser() -> argparse.ArgumentParser:
    keys = [*(entry.key for entry in peer_entries()), *OURS, *(v.key for v in VARIANTS)]
    models = textwrap.fill(", ".join(keys), 78, initial_indent="  ", subsequent_indent="  ")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        epilog=f"models:\n{models}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="ads as csv, csv.gz, zip or parquet",
    )
    parser.add_argument("--folds", type=_folds, default=5, help="(default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the folds (default: 0)")
    parser.add_argument(
        "--models", metavar="KEYS", help="only these, with commas (default: all but variants)"
    )
    parser.add_argument("--rows", type=int, metavar="N", help="only as many ads, at random")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=PROJECT_ROOT / "configs" / "training.yaml",
        help="parameters of ours (default: configs/training.yaml)",
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR", default=RESULTS, help="where files are written"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _folds(text: str) -> int:
    folds = int(text)
    if folds < 2:
        raise argparse.ArgumentTypeError("at least 2 folds are needed")
    return folds


if __name__ == "__main__":
    sys.exit(main())
