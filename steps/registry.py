"""Steps that release a model: its card and package in MLflow, and its promotion."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from zenml import step
from zenml.types import HTMLString

from demand.config import GateSettings
from demand.data.typed import TypedAds
from demand.evaluation.slices import measure_coverage
from demand.model.predictor import Predictor
from demand.monitoring.reference import reference_of
from demand.registry.packaging import SAMPLES_MAX, log_model
from demand.registry.promotion import promote_challenger
from demand.registry.tracking import open_run
from demand.reports.card import ModelFacts, model_card, write_card
from orchestration.model_versions import follow_aliases
from orchestration.steps import CACHED_REPORT, REPORTS, noted, output, reported, shown

TABLES = ("compared", "slices", "calibration")
PLOTS = ("calibration", "error_by_category", "predicted_and_actual", "training_curve")


@step(cache_policy=CACHED_REPORT)
def package(
    served: Predictor,
    predictor: Predictor,
    fits: dict[str, Any],
    market: dict[str, Any],
    evaluation: Path,
    metrics: dict[str, float],
    ads: TypedAds,
    test_rows: np.ndarray,
    logged_model: dict[str, str],
    lineage: dict[str, str],
    rows: dict[str, int],
    data_warnings: list[str],
    check_warnings: list[str],
    params: dict[str, Any],
    settings: GateSettings,
    demo: tuple[int, int] | None,
) -> tuple[
    Annotated[dict[str, str], output("served_model", "Its ids in MLflow", "model", "mlflow")],
    Annotated[HTMLString, output("model_card", "What the model is and is not", "report")],
    Annotated[Path, output(REPORTS, "The model card as page and text", "report")],
]:
    """Write the model card and log it with the model; ``evaluation`` has tables and plots."""
    with noted() as notes, reported() as reports:
        tables = {name: pd.read_csv(evaluation / f"{name}.csv") for name in TABLES}
        coverage, test_ads = None, ads.frame(test_rows)
        if predictor.has_intervals:
            coverage = measure_coverage(test_ads, *predictor.interval(test_ads), nominal=0.8)
        card = model_card(
            ModelFacts(
                metrics=metrics,
                **tables,
                rows=rows,
                lineage=lineage,
                config=params | {"gate": settings.model_dump(mode="json")},
                fits=fits,
                demo=demo is not None,
                data_warnings=data_warnings,
                check_warnings=check_warnings,
                plots={name: (evaluation / f"{name}.png").read_bytes() for name in PLOTS},
                coverage=coverage,
                size_bytes=served.size_bytes,
                trained=datetime.date.fromisoformat(fits.get("trained", logged_model["trained"])),
            )
        )
        page = shown(write_card(card, reports))
        run, samples = open_run(logged_model["run_id"]), test_ads.head(SAMPLES_MAX)
        judged = predictor if fits["refit"] else None
        told = {"card": reports, "market": market}
        told["reference"] = reference_of(test_ads, predictor.predict(test_ads))
        model_id = log_model(run, served, samples, held_out=judged, **told)
        notes |= {"mlflow_model": model_id, "size_bytes": served.size_bytes}
    return {"run_id": run.run_id, "model_id": model_id}, page, reports


@step(enable_cache=False)
def promote(
    logged_model: dict[str, str],
    metrics: dict[str, float],
    lineage: dict[str, str],
    data_warnings: list[str],
    check_warnings: list[str],
    fingerprint: str,
    compared: str | None,
    settings: GateSettings,
) -> tuple[
    Annotated[str, output("champion_version", "Version that is champion now", "registry")],
    Annotated[bool, output("promoted", "Whether this run made it so", "registry")],
]:
    """Register the model, and make it champion if the comparison allows; else refuse.

    ``compared`` is the champion that the metrics compare with.
    """
    with noted() as notes:
        warned = {"data_warnings": data_warnings, "check_warnings": check_warnings}
        try:
            result = promote_challenger(
                logged_model["model_id"],
                data_md5=lineage["data_md5"],
                fingerprint=fingerprint,
                metrics=metrics,
                tags=lineage | {name: "\n".join(lines) for name, lines in warned.items()},
                compared=compared,
                margin=settings.champion_margin,
            )
        finally:
            follow_aliases()  # a challenger that is refused was registered, too
        version = result.version.version
        # The metrics again: where `evaluate` is cached, this run has none of its own.
        notes |= {**metrics, "mlflow_version": version, "promoted": result.promoted}
        notes["reason"] = result.reason
    return version, result.promoted
