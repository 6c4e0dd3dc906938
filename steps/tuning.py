"""The step that searches for better parameters, and logs the search to MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from optuna.study import Study
from zenml import step

from demand.config import TrainingConfig
from demand.data.lineage import model_settings
from demand.data.typed import TypedAds
from demand.model.tuning.config import SearchSpace, TuningConfig
from demand.model.tuning.study import compare, search, study_name
from demand.progress import console, show_trial
from demand.registry.tracking import tracked_run
from demand.reports.tuning import search_figures, trials_table, write_plots, write_search
from demand.workspace.workspace import current_workspace
from orchestration.steps import REPORTS, noted, output, pipeline_reports, publish, reported

EXPERIMENT = "tuning"


# Never cached: it goes on with its own trials.
@step(enable_cache=False)
def tune(
    ads: TypedAds,
    training_rows: np.ndarray,
    validation_rows: np.ndarray,
    lineage: dict[str, str],
    base: TrainingConfig,
    settings: TuningConfig,
    trials: int,
    anew: bool,
) -> tuple[
    Annotated[dict[str, Any], output("metrics", "What the search found", "metrics")],
    Annotated[pd.DataFrame, output("trials", "A row a trial", "search")],
    Annotated[Path, output(REPORTS, "Tables and plots of the search", "report")],
]:
    """Try configs on folds of the training and validation rows; the test rows are not for it."""
    with noted() as notes, reported() as reports:
        parts = [ads.frame(rows) for rows in (training_rows, validation_rows)]
        searched = pd.concat(parts, ignore_index=True)
        space = SearchSpace(base, settings.space)
        name = study_name(lineage["data_md5"], base, settings)
        about = {
            "trials_asked": trials,
            "folds": settings.folds,
            "rows": len(searched),
            "data_md5": lineage["data_md5"],
            "study": name,
        }

        def report(study: Study, compared: tuple[float, float] | None = None) -> dict[str, Any]:
            figures = search_figures(study, space, compared, about)
            write_search(reports, study, space, figures)
            publish(reports, pipeline_reports())
            return figures

        def on_trial(study: Study) -> None:
            show_trial(trials_table(study, space), trials)
            report(study)

        study = search(
            *(searched, space, settings, trials, current_workspace().studies, name),
            anew=anew,
            on_trial=on_trial,
        )
        compared, best = None, study.best_trial
        if best.number:
            console().print(f"  comparing trial {best.number} with the base on fresh folds")
            compared = compare(searched, space, settings, space.values(best.params))
        write_plots(reports, study)
        figures, table = report(study, compared), trials_table(study, space)
        _log(table, figures, reports, lineage, base, settings)
        notes |= {name: figures[name] for name in ("best_rmse", "base_rmse")}
    return figures, table, reports


def _log(
    table: pd.DataFrame,
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
        scores = table["rmse"]
        run.log_curves({"trial_rmse": scores.tolist(), "lowest_rmse": scores.cummin().tolist()})
        run.log_metrics({k: v for k, v in figures.items() if isinstance(v, int | float)})
        run.client.log_artifacts(run.run_id, str(reports), "reports")
