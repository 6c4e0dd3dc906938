"""Steps that judge: the behaviour checks, and the RMSE gate with its reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from zenml import step
from zenml.types import HTMLString

from demand.config import CheckSettings, GateSettings
from demand.data.typed import TypedAds
from demand.demo import noise_floor
from demand.evaluation.baselines import BaselineMLP
from demand.evaluation.checks import run_checks
from demand.evaluation.evaluate import evaluate as measure
from demand.evaluation.slices import SEEN_COLUMNS, measure_coverage
from demand.model.predictor import Predictor
from demand.registry.promotion import champion_answers
from demand.registry.tracking import open_run
from demand.reports.pages import write_checks, write_evaluation
from demand.reports.training import METRICS_FILE, training_report
from demand.workspace.workspace import write_json
from orchestration.steps import CACHED_REPORT, REPORTS, noted, output, refuse, reported, shown


@step(cache_policy=CACHED_REPORT)
def check(
    predictor: Predictor,
    ads: TypedAds,
    training_rows: np.ndarray,
    test_rows: np.ndarray,
    baseline_answers: pd.DataFrame,
    settings: CheckSettings,
) -> tuple[
    Annotated[list[str], output("warnings", "Checks that failed and only warn", "checks")],
    Annotated[HTMLString, output("checks", "All checks of the model", "checks", "report")],
    Annotated[HTMLString, output("giskard_scan", "Giskard's own page", "checks", "report")],
    Annotated[Path, output(REPORTS, "Pages of the checks", "report")],
]:
    """Run the domain's tests and Giskard's scan; a critical failure stops the pipeline."""
    with noted() as notes, reported() as reports:
        found = run_checks(
            predictor,
            ads.frame(test_rows),
            settings,
            train=ads.frame(training_rows, SEEN_COLUMNS),
            baseline_predicted=baseline_answers[BaselineMLP.NAME].to_numpy(),
        )
        overview, scanned = write_checks(found, reports)
        notes["failed_checks"] = [finding.name for finding in found.failed]
        page = shown(overview)
        scan = shown(scanned) if scanned else HTMLString("no scan asked for")
        if found.refusal is not None:
            refuse("checks", found.refusal, checks=page, giskard_scan=scan)
    warnings = [f"{finding.name}: {finding.detail}" for finding in found.warnings]
    return warnings, page, scan, reports


@step(cache_policy=CACHED_REPORT)
def evaluate(
    predictor: Predictor,
    curve: pd.DataFrame,
    ads: TypedAds,
    test_rows: np.ndarray,
    baseline_answers: pd.DataFrame,
    logged_model: dict[str, str],
    lineage: dict[str, str],
    rows: dict[str, int],
    settings: GateSettings,
    seed: int,
    champion: str | None,
    demo: tuple[int, int] | None,
) -> tuple[
    Annotated[dict[str, float], output("metrics", "Errors on the test ads", "metrics")],
    Annotated[HTMLString, output("evaluation", "The evaluation, with its plots", "report")],
    Annotated[Path, output(REPORTS, "Tables and plots of the evaluation", "report")],
]:
    """Compare with the baselines and the champion on the same rows, and pass the RMSE gate.

    ``champion`` is the version that serves now; ``demo`` the rows and seed of the demo
    ads, where the data are those, so that their noise floor is known.
    """
    with noted() as notes, reported() as reports:
        test_ads = ads.frame(test_rows)
        floor = noise_floor(*demo, item_ids=test_ads["item_id"].tolist()) if demo else None
        answers, fresh = champion_answers(champion, test_ads)
        evaluation = measure(
            test_ads,
            predictor.predict(test_ads),
            baselines=dict(baseline_answers.items()),
            champion_predicted=answers,
            fresh=fresh,
            settings=settings,
            seed=seed,
            noise_floor_rmse=floor,
        )
        metrics = dict(evaluation.metrics)
        if predictor.has_intervals:
            coverage = measure_coverage(test_ads, *predictor.interval(test_ads))
            metrics |= {"interval_coverage": coverage.overall, "interval_width": coverage.width}
        page = shown(write_evaluation(evaluation, curve, reports))
        write_json(reports / METRICS_FILE, training_report(metrics, rows, lineage))
        notes |= metrics
        open_run(logged_model["run_id"]).log_metrics(metrics)
        for decision in evaluation.decisions[:2]:  # the champion is compared with in `promote`
            if not decision.passed:
                refuse(decision.gate, decision.reason, evaluation=page)
    return metrics, page, reports
