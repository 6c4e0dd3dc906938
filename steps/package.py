"""Write the card of the model that is to serve, and log both to MLflow."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from zenml import step
from zenml.types import HTMLString

from demand.config import GateSettings
from demand.evaluation.card import Coverage, Fits, ModelFacts, model_card, write_card
from demand.evaluation.coverage import measure_coverage
from demand.predictor import Predictor
from demand.serving.mlflow_model import SAMPLES_MAX, log_model
from demand.serving.tracking import open_run
from demand.state import reports_folder
from steps.common import CACHED, REPORTS, publish, timed

PLOTS = ("calibration", "error_by_category", "predicted_and_actual", "training_curve")


@step(cache_policy=CACHED)
def package(
    served: Predictor,
    predictor: Predictor,
    fits: dict[str, Any],
    market: dict[str, Any],
    evaluation: Path,
    metrics: dict[str, float],
    test_ads: pd.DataFrame,
    logged_model: dict[str, str],
    lineage: dict[str, str],
    rows: dict[str, int],
    data_warnings: list[str],
    check_warnings: list[str],
    params: dict[str, Any],
    settings: GateSettings,
    demo: tuple[int, int] | None,
) -> tuple[
    Annotated[dict[str, str], "served_model"],
    Annotated[HTMLString, "model_card"],
    Annotated[Path, REPORTS],
]:
    """Return the ids of the logged model; ``evaluation`` has the tables and plots."""
    with timed():
        tables = {
            name: pd.read_csv(evaluation / f"{name}.csv")
            for name in ("compared", "slices", "calibration")
        }
        coverage = None
        if predictor.has_intervals:
            found = measure_coverage(test_ads, *predictor.interval(test_ads))
            coverage = Coverage(found.overall, found.by_parent_category, nominal=0.8)
        card = model_card(
            ModelFacts(
                metrics=metrics,
                **tables,
                rows=rows,
                lineage=lineage,
                config=params | {"gate": settings.model_dump(mode="json")},
                fits=Fits(**fits),
                demo=demo is not None,
                data_warnings=data_warnings,
                check_warnings=check_warnings,
                plots={name: (evaluation / f"{name}.png").read_bytes() for name in PLOTS},
                coverage=coverage,
                size_bytes=served.size_bytes,
                trained=datetime.datetime.now(datetime.UTC).date(),
            )
        )
        reports = Path(tempfile.mkdtemp())
        page = write_card(card, reports)
        publish(reports, reports_folder("training"))
        run = open_run(logged_model["run_id"])
        model_id = log_model(
            run,
            served,
            test_ads.head(SAMPLES_MAX),
            held_out=predictor if fits["refit"] else None,
            card=reports,
            market=market,
        )
        shown = HTMLString(page.read_text(encoding="utf-8"))
    return {"run_id": run.run_id, "model_id": model_id}, shown, reports
