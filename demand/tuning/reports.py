"""What a search leaves for people: the best config, all trials, the figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from demand.reporting import METRICS_FILE
from demand.state import write_aside, write_json
from demand.tuning.comparison import Comparison
from demand.tuning.search import Found
from demand.tuning.space import Space

BEST_FILE, TRIALS_FILE = "best.yaml", "trials.csv"


def search_figures(
    found: Found, compared: Comparison | None, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of ``metrics.json``; ``about`` has what else identifies the search."""
    best, base = found.best, found.base
    if best is base:
        better: bool | None = False
    else:
        better = compared.better if compared else None
    return {
        "best_rmse": best.rmse,
        "base_rmse": base.rmse,
        "best_trial": best.number,
        "best": best.values,
        "gain": compared.gain if compared else None,
        "noise": compared.noise if compared else None,
        "better_than_noise": better,
        "trials_finished": found.count("finished"),
        "trials_pruned": found.count("pruned"),
        "trials_failed": found.count("failed"),
        "trials_interrupted": found.interrupted,
        "seconds": round(sum(trial.seconds for trial in found.trials), 1),
        **about,
    }


def trials_table(found: Found) -> pd.DataFrame:
    """One row a trial: trial, state, rmse, behind_base, folds, seconds, failure, its values.

    ``rmse`` is the mean over all folds, or missing; ``behind_base`` over those it reached.
    """
    return pd.DataFrame(
        [
            {
                "trial": trial.number,
                "state": trial.state,
                "rmse": trial.rmse if trial.state == "finished" else math.nan,
                "behind_base": found.behind_base(trial),
                "folds": len(trial.folds),
                "seconds": trial.seconds,
                "failure": trial.failure,
                **{key: _cell(value) for key, value in trial.values.items()},
            }
            for trial in found.trials
        ]
    )


def write_search(folder: Path, space: Space, found: Found, figures: Mapping[str, Any]) -> None:
    """Write ``best.yaml``, ``trials.csv`` and ``metrics.json``, each replaced whole."""
    config = space.config(found.best.values).model_dump(mode="json")
    content = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    with write_aside(folder / BEST_FILE) as aside:
        aside.write_text(_header(found, figures) + content, encoding="utf-8")
    with write_aside(folder / TRIALS_FILE) as aside:
        trials_table(found).to_csv(aside, index=False)
    write_json(folder / METRICS_FILE, dict(figures))


def verdict(figures: Mapping[str, Any]) -> str:
    """Say in one sentence whether the search has found anything."""
    if figures["best_trial"] == 0:
        return "nothing is better than the base config"
    if figures["better_than_noise"] is None:
        return "whether that is more than noise was not measured yet"
    measured = (
        f"on fresh folds trial {figures['best_trial']} gains {figures['gain']:.5f} RMSE, "
        f"and {figures['noise']:.5f} may be noise"
    )
    if figures["better_than_noise"]:
        return f"better than the base config: {measured}"
    return f"nothing is better than the base config by more than noise: {measured}"


def _header(found: Found, figures: Mapping[str, Any]) -> str:
    changes = [f"#   {key}: {_cell(value)}" for key, value in found.best.values.items()]
    return "\n".join(
        [
            "# Made by `python run.py --pipeline tuning`, trial "
            f"{found.best.number} of {len(found.trials)}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
            f"# Mean RMSE over {figures['folds']} folds of the training rows: "
            f"{found.best.rmse:.5f}, of the base config {found.base.rmse:.5f};",
            *textwrap.wrap(f"{verdict(figures)}.", 98, initial_indent="# ", subsequent_indent="# "),
            f"# Data: md5 {figures['data_md5']}. What was searched:",
            *changes,
            "",
            "",
        ]
    )


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value
