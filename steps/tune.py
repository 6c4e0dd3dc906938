"""Search for better parameters, and log the search to MLflow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from zenml import log_metadata, step

from demand.config import TrainingConfig
from demand.lineage import model_settings
from demand.progress import console, trials_shown
from demand.serving.tracking import tracked_run
from demand.state import home
from demand.tuning.comparison import Comparison, compare
from demand.tuning.reports import search_figures, trials_table, write_search
from demand.tuning.search import Found, search
from demand.tuning.settings import TuningConfig
from demand.tuning.space import Space
from demand.tuning.study import StudyPlace, study_name
from steps.common import REPORTS, pipeline_reports, publish, timed

EXPERIMENT = "tuning"


# Never cached: it goes on with its own trials.
@step(enable_cache=False)
def tune(
    training_ads: pd.DataFrame,
    validation_ads: pd.DataFrame,
    lineage: dict[str, str],
    base: TrainingConfig,
    settings: TuningConfig,
    trials: int,
    anew: bool,
) -> tuple[
    Annotated[dict[str, Any], "metrics"],
    Annotated[pd.DataFrame, "trials"],
    Annotated[Path, REPORTS],
]:
    """Try configs on folds of the training and validation rows; the test rows are not for it."""
    with timed():
        ads = pd.concat([training_ads, validation_ads], ignore_index=True)
        space = Space.of(base, settings.space)
        place = StudyPlace(home().studies, study_name(lineage["data_md5"], base, settings))
        about = {
            "trials_asked": trials,
            "folds": settings.folds,
            "rows": len(ads),
            "data_md5": lineage["data_md5"],
            "study": place.name,
        }
        reports = Path(tempfile.mkdtemp())

        def report(found: Found, compared: Comparison | None = None) -> dict[str, Any]:
            figures = search_figures(found, compared, about)
            write_search(reports, space, found, figures)
            publish(reports, pipeline_reports())
            return figures

        with trials_shown(trials) as show:

            def on_trial(found: Found) -> None:
                show(found)
                report(found)

            found = search(ads, space, settings, trials, place, anew=anew, on_trial=on_trial)
        if found.best is not found.base:
            console().print(f"  comparing trial {found.best.number} with the base on fresh folds")
        figures = report(found, compare(ads, space, settings, found))
        _log(found, figures, reports, lineage, base, settings)
        log_metadata({"best_rmse": figures["best_rmse"], "base_rmse": figures["base_rmse"]})
    return figures, trials_table(found), reports


def _log(
    found: Found,
    figures: dict[str, Any],
    reports: Path,
    lineage: dict[str, str],
    base: TrainingConfig,
    settings: TuningConfig,
) -> None:
    """Log a search that is through as one MLflow run, however often it was interrupted."""
    with tracked_run("tuning", tags=lineage, experiment=EXPERIMENT) as run:
        searched = settings.model_dump(exclude={"base", "space", "trials"})
        space = {key: d.model_dump(exclude_defaults=True) for key, d in settings.space.items()}
        run.log_params(searched | {"space": space, "base": model_settings(base)})
        scores = trials_table(found)["rmse"]
        run.log_curves({"trial_rmse": scores.tolist(), "lowest_rmse": scores.cummin().tolist()})
        run.log_metrics({k: v for k, v in figures.items() if isinstance(v, int | float)})
        run.log_folder(reports, "reports")
