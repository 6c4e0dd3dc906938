"""How good are the predictions beside those of peers? ``python -m benchmarks.quality``.

Cross-validates the mean, category means, the report's MLP, ridge, LightGBM, CatBoost and
ours on the same folds of sellers; prints errors, costs, ours without each column,
calibration and coverage, and writes them below benchmarks/results.

RMSE: mean and standard deviation over the folds, then of all out-of-fold answers together.
The intervals (95 %, paired bootstrap by seller) are of a model's RMSE less that of ours:
positive where ours is better. Training: median seconds a fold, without the search of
settings, which ran once inside the first fold's training ads. Prediction: in a batch of
one fold, one thread. A model of several seeds is as slow and as large as all of them.

Exit status 0, or 1 where ours is worse than category means because the test ads lack a column.
"""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import mean_absolute_error

from benchmarks.models.folds import Entry, Outcome, cross_validate, seller_folds
from benchmarks.models.ours import our_entries
from benchmarks.models.peers import CATEGORY_MEANS, peer_entries
from benchmarks.report import Cell, Grid, Report, Say, program_parser, run
from cli.terminal import whole_number
from demand.config import TrainingConfig, load_config
from demand.data.reading import read_ads
from demand.errors import ConfigError
from demand.evaluation import metrics
from demand.evaluation.metrics import Floats, Integers, rmse
from demand.evaluation.slices import measure_coverage
from demand.model.calibration import fit_intervals
from demand.model.predictor import parents_of
from demand.schema.columns import TARGET
from demand.workspace.workspace import PROJECT_ROOT

COVERAGE_ROWS_MIN = 200  # of a parent category
# Ours with one seed and averaged: everybody is compared with both that were trained.
OURS = ("ours", "ours5")


def score_grid(outcomes: list[Outcome], ads: pd.DataFrame, fold: Integers) -> Grid:
    """Return a line a model: errors, distance to ours, and costs.

    RMSE by fold has its mean and a sample's standard deviation; RMSE, MAE and the expected
    calibration error (ten bins of equal count) are of all out-of-fold answers together.
    """
    ours = [outcome for outcome in outcomes if outcome.entry.key in OURS]
    columns = {"model": "", "RMSE of folds": "", "RMSE": ".4f", "MAE": ".4f", "ECE": ".4f"}
    columns |= {f"RMSE - {each.entry.name}": "" for each in ours}
    columns |= {"train s": ".1f", "µs/ad": ".1f", "KB": ",.0f", "search s": ",.0f"}
    rows: list[list[Cell]] = []
    for outcome in outcomes:
        by_fold = [
            _mean(rmse, outcome.predicted[:, fold == part], ads[fold == part])
            for part in np.unique(fold)
        ]
        errors = [
            _mean(figure, outcome.predicted, ads)
            for figure in (rmse, mean_absolute_error, metrics.expected_calibration_error)
        ]
        behind = [_difference(outcome, each, ads) for each in ours]
        spread = f"{np.mean(by_fold):.4f} ± {np.std(by_fold, ddof=1):.4f}"
        costs = [*outcome.costs.tolist(), outcome.search_s]
        rows.append([outcome.entry.name, spread, *errors, *behind, *costs])
    return Grid("Quality by model", columns, rows)


def _mean(figure: Callable[[Any, Any], float], predicted: Floats, ads: pd.DataFrame) -> float:
    """Return the mean of a figure over the models of an outcome, shape (models, rows)."""
    return float(np.mean([figure(ads[TARGET], answers) for answers in predicted]))


def _difference(outcome: Outcome, ours: Outcome, ads: pd.DataFrame) -> str | None:
    """Tell the RMSE of a model less that of ours, with its interval; positive: ours is better.

    Where every seed is a model by itself, it is the seed with the median RMSE.
    """
    if outcome is ours:
        return None
    pooled = [rmse(ads[TARGET], answers) for answers in outcome.predicted]
    median = outcome.predicted[int(np.argsort(pooled)[len(pooled) // 2])]
    estimate, low, high = metrics.bootstrap_rmse(
        ads[TARGET], median, ours.predicted[0], groups=ads["user_id"]
    )
    return f"{estimate:+.4f} ({low:+.4f} … {high:+.4f})"


def settings_grid(outcomes: list[Outcome]) -> Grid:
    """Return what each search chose."""
    rows = [(each.entry.name, each.chosen) for each in outcomes if each.chosen]
    return Grid("Settings", {"model": "", "chosen": ""}, rows)


def missing_grid(outcome: Outcome, ads: pd.DataFrame, fold: Integers) -> Grid:
    """Return the error of an outcome without each column, the worst first.

    A column passes where that is no worse than category means, learnt in the same folds.
    """
    (means,) = cross_validate([CATEGORY_MEANS], ads, fold)
    whole, bound = (rmse(ads[TARGET], each.predicted[0]) for each in (outcome, means))
    errors = {name: rmse(ads[TARGET], answers) for name, answers in outcome.without.items()}
    rows = [
        (name, error, error - whole, "pass" if error <= bound else "FAIL")
        for name, error in sorted(errors.items(), key=lambda item: -item[1])
    ]
    title = f"Ours where the test ads lack a column (category means: {bound:.4f})"
    return Grid(title, {"without": "", "RMSE": ".4f", "change": "+.4f", "passed": ""}, rows)


def calibration_grid(outcome: Outcome, ads: pd.DataFrame) -> Grid:
    """Return a line a bin of :func:`demand.evaluation.metrics.calibration_table`."""
    table = metrics.calibration_table(ads[TARGET], outcome.predicted[0])
    table["difference"] = table["predicted_mean"] - table["actual_mean"]
    figures = table[["bin", "rows", "predicted_mean", "actual_mean", "difference"]]
    columns = {"decile": ".0f", "ads": ",.0f", "predicted": ".4f", "actual": ".4f"}
    title = f"Calibration of {outcome.entry.name}"
    return Grid(title, {**columns, "difference": "+.4f"}, figures.to_numpy().tolist())


def coverage_grid(outcome: Outcome, ads: pd.DataFrame, fold: Integers) -> Grid:
    """Return how often 80 % intervals hold the outcome, each fold's calibrated on the others.

    Those of the other folds were answered by models that had not seen them either.
    """
    predicted, actual = outcome.predicted[0], ads[TARGET].to_numpy(dtype=np.float64)
    parents = np.array(parents_of(ads), dtype=object)
    low, high = np.empty(len(ads)), np.empty(len(ads))
    for number in np.unique(fold):
        here = fold == number
        intervals = fit_intervals(predicted[~here], actual[~here], list(parents[~here]))
        low[here], high[here] = intervals.bounds(predicted[here], list(parents[here]))
    found = measure_coverage(ads, low, high, COVERAGE_ROWS_MIN)
    name, width = outcome.entry.name, found.width
    title = f"Outcomes within the 80 % intervals of {name} (mean width {width:.3f})"
    rows = [("all", found.overall), *found.by_parent_category.items()]
    return Grid(title, {"parent category": "", "covered": ".1%"}, rows)


def measure(
    ads: pd.DataFrame, entries: list[Entry], folds: int, seed: int, say: Say = lambda _: None
) -> Report:
    """Cross-validate entries on typed ads with their target, in folds drawn by ``seed``.

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
    outcomes = list(cross_validate(entries, ads, fold, say))
    minutes = f"{(time.perf_counter() - started) / 60:.1f}"
    sizes = {"ads": len(ads), "sellers": sellers, "folds": folds, "seed": seed}
    about: dict[str, str | float] = {**sizes, "minutes": minutes}
    grids = [score_grid(outcomes, ads, fold)]
    ours = [each for key in OURS for each in outcomes if each.entry.key == key]
    grids += [missing_grid(each, ads, fold) for each in ours[:1]]
    grids += [calibration_grid(each, ads) for each in ours]
    grids += [coverage_grid(each, ads, fold) for each in ours]
    status = int(any("FAIL" in row for grid in grids for row in grid.rows))
    return Report("quality", about, __doc__, grids, [settings_grid(outcomes)], status)


def chosen_entries(entries: list[Entry], keys: str | None) -> list[Entry]:
    """Return the entries that a list of keys names; without one all that are not optional.

    Raises
    ------
    ConfigError
        A key is unknown; all known ones are named.
    """
    if keys is None:
        return [entry for entry in entries if not entry.optional]
    asked = set(keys.replace(" ", "").split(","))
    known = [entry.key for entry in entries]
    if unknown := asked.difference(known):
        raise ConfigError(f"no model {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [entry for entry in entries if entry.key in asked]


def subsample(ads: pd.DataFrame, rows: int | None, seed: int) -> pd.DataFrame:
    """Return as many of the ads at random, in their order; all where there are no more."""
    if rows is None or rows >= len(ads):
        return ads
    return ads.sample(rows, random_state=seed).sort_index().reset_index(drop=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    parser = program_parser(
        "quality",
        __doc__,
        "--data ../shared/avito/ads.csv",
        "--data ads.csv --models mean,ridge,ours --rows 2000",
    )
    keys = (entry.key for entry in [*peer_entries(), *our_entries(TrainingConfig())])
    models = textwrap.fill(", ".join(keys), 78, initial_indent="  ", subsequent_indent="  ")
    parser.epilog = f"models:\n{models}\n\n{parser.epilog}"
    add, config = parser.add_argument, PROJECT_ROOT / "configs" / "training.yaml"
    add("--data", type=Path, required=True, help="ads as csv, csv.gz, zip or parquet")
    add("--folds", type=whole_number(2, 100), default=5, help="(default: 5)")
    add("--seed", type=int, default=0, help="of the folds (default: 0)")
    add("--models", metavar="KEYS", help="only these, with commas (default: all but variants)")
    add("--rows", type=int, metavar="N", help="only as many ads, at random")
    add("--config", type=Path, default=config, help="of ours (default: configs/training.yaml)")
    return run(parser, arguments, _measure)


def _measure(
    data: Path, folds: int, seed: int, models: str | None, rows: int | None, config: Path, say: Say
) -> Report:
    every = [*peer_entries(), *our_entries(load_config(config, TrainingConfig))]
    entries = chosen_entries(every, models)
    return measure(subsample(read_ads(data).frame, rows, seed), entries, folds, seed, say)


if __name__ == "__main__":
    sys.exit(main())
