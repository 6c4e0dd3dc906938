"""Fit what is to serve on all ads, now that a fit on a part of them passed its gates."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from zenml import log_metadata, step
from zenml.types import HTMLString

from demand.checks.run import behaviour_only, run_checks
from demand.config import CheckSettings, FeatureSettings, TrainingSettings
from demand.market import market
from demand.predictor import Predictor
from demand.progress import epochs_shown
from demand.refitting import calibrated, difference
from demand.refitting import refit as fit_again
from demand.state import reports_folder
from steps.common import CACHED, REPORTS, publish, refuse, timed
from steps.materializers import PredictorMaterializer


@step(cache_policy=CACHED, output_materializers={"served": PredictorMaterializer})
def refit(
    predictor: Predictor,
    epochs: int,
    training_ads: pd.DataFrame,
    validation_ads: pd.DataFrame,
    test_ads: pd.DataFrame,
    features: FeatureSettings,
    settings: TrainingSettings,
    checks: CheckSettings,
    seed: int,
) -> tuple[
    Annotated[Predictor, "served"],
    Annotated[dict[str, Any], "fits"],
    Annotated[dict[str, Any], "market"],
    Annotated[Path, REPORTS],
]:
    """Return the model that is to serve: ``predictor`` itself where no refit is asked for.

    ``fits`` are the arguments of :class:`demand.evaluation.card.Fits`. The refitted model
    must behave like any other: its critical checks stop the pipeline, too. ``market`` sums up
    the ads that the model which is to serve has learnt from, and no others.
    """
    with timed():
        reports = Path(tempfile.mkdtemp())
        if not settings.refit:
            # The validation ads ended its training, and calibrated it.
            ads = pd.concat([training_ads, validation_ads], ignore_index=True)
            return predictor, {"refit": False, "epochs": epochs}, market(ads), reports
        ads = pd.concat([training_ads, validation_ads, test_ads], ignore_index=True)
        with epochs_shown(epochs) as on_epoch:
            fitted = fit_again(ads, epochs, features, settings, seed, on_epoch)
        held_out = pd.concat([validation_ads, test_ads], ignore_index=True)
        served = calibrated(fitted, predictor, held_out)
        found = run_checks(served, test_ads, behaviour_only(checks), reports / "served")
        publish(reports, reports_folder("training"))
        if found.refusal is not None:
            page = HTMLString(found.html.read_text(encoding="utf-8"))
            refuse("checks", f"after the refit on all ads: {found.refusal}", served_checks=page)
        moved = difference(served, predictor, test_ads)
        told = market(ads)
        log_metadata({"rows": len(ads), "epochs": epochs, "mean_difference": moved})
    fits = {"refit": True, "epochs": epochs, "rows": len(ads), "difference": moved}
    return served, fits, told, reports
