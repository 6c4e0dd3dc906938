"""What a search leaves for people: the best config, all trials, the figures, Optuna's plots."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from demand.model.tuning.config import SearchSpace
from demand.model.tuning.study import FAILURE, INTERRUPTED
from demand.reports.training import METRICS_FILE
from demand.workspace.workspace import write_aside, write_json

if TYPE_CHECKING:
    from optuna.study import Study

BEST_FILE, TRIALS_FILE = "best.yaml", "trials.csv"
FINISHED, PRUNED, FAILED = "finished", "pruned", "failed"


def trials_table(study: Study, space: SearchSpace) -> pd.DataFrame:
    """One row a trial: trial, state, rmse, behind_base, folds, seconds, failure, its values.

    ``rmse`` is the mean over all folds, or missing; ``behind_base`` over those it reached.
    """
    attributes = ("number", "state", "value", "duration", "user_attrs", "params")
    table = study.trials_dataframe((*attributes, "intermediate_values"))
    failure = table.reindex(columns=[f"user_attrs_{FAILURE}"]).iloc[:, 0].fillna("")
    finished = table["state"] == "COMPLETE"
    reached = table.filter(like="intermediate_values_")
    return pd.DataFrame(
        {
            "trial": table["number"],
            "state": np.select([finished, failure == ""], [FINISHED, PRUNED], FAILED),
            "rmse": table["value"].where(finished),
            "behind_base": reached.ffill(axis=1).iloc[:, -1],
            "folds": reached.notna().sum(axis=1),
            "seconds": table["duration"].dt.total_seconds().round(3),
            "failure": failure,
            **{key: table[f"params_{key}"] for key in space.dimensions},
        }
    )


def search_figures(
    study: Study, space: SearchSpace, compared: tuple[float, float] | None, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    ``compared`` is gain and noise on fresh folds, where they were measured; ``about`` what
    else identifies the search.
    """
    best, table = study.best_trial, trials_table(study, space)
    gain, noise = compared or (None, None)
    better = None if gain is None or noise is None else gain > noise
    return {
        "best_rmse": best.value,
        "base_rmse": study.trials[0].value,
        "best_trial": best.number,
        "best": space.values(best.params),
        "gain": gain,
        "noise": noise,
        "better_than_noise": better if best.number else False,
        **{f"trials_{s}": int(sum(table["state"] == s)) for s in (FINISHED, PRUNED, FAILED)},
        "trials_interrupted": study.user_attrs[INTERRUPTED],
        "seconds": round(float(table["seconds"].sum()), 1),
        **about,
    }


def write_search(
    folder: Path, study: Study, space: SearchSpace, figures: Mapping[str, Any]
) -> None:
    """Write ``best.yaml``, ``trials.csv`` and ``metrics.json``, each replaced whole."""
    config = space.config(figures["best"]).model_dump(mode="json")
    content = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    with write_aside(folder / BEST_FILE) as aside:
        aside.write_text(_header(figures, len(study.trials)) + content, encoding="utf-8")
    with write_aside(folder / TRIALS_FILE) as aside:
        trials_table(study, space).to_csv(aside, index=False)
    write_json(folder / METRICS_FILE, dict(figures))


def write_plots(folder: Path, study: Study) -> None:
    """Draw Optuna's plots of a search: its course, and what each parameter does to the RMSE."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as plots

    drawn = {"optimization_history": plots.plot_optimization_history, "slice": plots.plot_slice}
    # An importance is a share of the variance, which a single value has not.
    if study.trials_dataframe(("value",))["value"].nunique() > 1:
        drawn["param_importances"] = plots.plot_param_importances
    plt.switch_backend("agg")
    for name, draw in drawn.items():
        with warnings.catch_warnings(), mpl.rc_context():
            # Of being experimental, and of a parameter that has had one value only.
            warnings.simplefilter("ignore")
            figure = np.ravel(draw(study, target_name="mean RMSE"))[0].figure
        with write_aside(folder / f"{name}.png") as aside:
            figure.savefig(aside, format="png", bbox_inches="tight")
        plt.close(figure)


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


def _header(figures: Mapping[str, Any], trials: int) -> str:
    lines = [
        f"Made by `python run.py --pipeline tuning`, trial {figures['best_trial']} of {trials}, "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        f"Mean RMSE over {figures['folds']} folds of the training rows: "
        f"{figures['best_rmse']:.5f}, of the base config {figures['base_rmse']:.5f};",
        *textwrap.wrap(f"{verdict(figures)}.", 98),
        f"Data: md5 {figures['data_md5']}. What was searched:",
        *(f"  {key}: {value}" for key, value in figures["best"].items()),
    ]
    return "".join(f"# {line}\n" for line in lines) + "\n"
