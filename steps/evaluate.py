"""Measure the model on the test ads, and let it pass the RMSE gate or not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import pandas as pd
from zenml import log_metadata, step
from zenml.types import HTMLString

from demand.config import GateSettings
from demand.demo import noise_floor
from demand.evaluation.coverage import measure_coverage
from demand.evaluation.evaluate import evaluate as measure
from demand.evaluation.plots import training_curve
from demand.evaluation.reports import write_evaluation
from demand.predictor import Predictor
from demand.reporting import METRICS_FILE, report
from demand.serving.promotion import champion_answers
from demand.serving.tracking import open_run
from demand.state import reports_folder, write_aside, write_json
from steps.common import CACHED, REPORTS, publish, refuse, timed


@step(cache_policy=CACHED)
def evaluate(
    predictor: Predictor,
    curve: pd.DataFrame,
    test_ads: pd.DataFrame,
    baseline_answers: pd.DataFrame,
    logged_model: dict[str, str],
    lineage: dict[str, str],
    rows: dict[str, int],
    settings: GateSettings,
    seed: int,
    champion: str | None,
    demo: tuple[int, int] | None,
) -> tuple[
    Annotated[dict[str, float], "metrics"],
    Annotated[HTMLString, "evaluation"],
    Annotated[Path, REPORTS],
]:
    """Compare with the baselines and the champion on the same rows.

    ``champion`` is the version that serves now; ``demo`` the rows and seed of the demo
    ads, where the data are those, so that their noise floor is known.
    """
    with timed():
        floor = noise_floor(*demo, item_ids=test_ads["item_id"].tolist()) if demo else None
        answers, fresh = champion_answers(champion, test_ads)
        evaluation = measure(
            test_ads,
            predictor.predict(test_ads),
            baselines={str(name): baseline_answers[name] for name in baseline_answers},
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
        reports = Path(tempfile.mkdtemp())
        page = write_evaluation(evaluation, reports, training_curve=training_curve(curve))
        with write_aside(reports / "curves.csv") as aside:
            curve.to_csv(aside, index=False)
        write_json(reports / METRICS_FILE, report(metrics, rows, lineage))
        publish(reports, reports_folder("training"))
        log_metadata({"metrics": metrics})
        open_run(logged_model["run_id"]).log_metrics(metrics)
        shown = HTMLString(page.read_text(encoding="utf-8"))
        for decision in evaluation.own_decisions:
            if not decision.passed:
                refuse(decision.gate, decision.reason, evaluation=shown)
    return metrics, shown, reports
