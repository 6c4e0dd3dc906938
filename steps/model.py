"""Steps that fit: features, the network, the baselines, and the refit that is to serve."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from zenml import step

from demand.config import CheckSettings, FeatureSettings, TrainingSettings
from demand.data.typed import TypedAds
from demand.evaluation.baselines import MEANS_COLUMNS, baseline_answers, drawn_rows
from demand.evaluation.checks import behaviour_only, run_checks
from demand.features import feature_set as core
from demand.features.category_statistics import category_statistics
from demand.features.feature_set import FeatureSet
from demand.features.training_ads import TrainingAds
from demand.model.predictor import Predictor
from demand.model.training import calibrate_intervals, calibrate_percentiles
from demand.model.training import refit as fit_again
from demand.model.training import train as fit
from demand.progress import blocks_shown, show_epoch
from demand.registry.packaging import SAMPLES_MAX, log_model
from demand.registry.promotion import log_sellers
from demand.registry.tracking import tracked_run
from demand.reports.pages import write_checks
from orchestration.steps import (
    CACHED,
    REPORTS,
    FeatureSetMaterializer,
    PredictorMaterializer,
    noted,
    output,
    refuse,
    reported,
    shown,
    today,
)

# Ads whose answers say where others stand in their category.
_PERCENTILE_ROWS_MAX = 100_000


@step(cache_policy=CACHED, output_materializers={"feature_set": FeatureSetMaterializer})
def build_features(
    ads: TypedAds,
    training_rows: np.ndarray,
    validation_rows: np.ndarray,
    settings: FeatureSettings,
    seed: int,
) -> Annotated[FeatureSet, output("feature_set", "Ads as arrays, with the encoders", "features")]:
    """Fit the features on the training ads, apply them to the validation ads."""
    with noted() as notes:
        training_ads, validation_ads = TrainingAds(ads, training_rows), ads.frame(validation_rows)
        built = core.build_features(training_ads, validation_ads, settings, seed)
        fitted = built.builder
        notes |= {"crosses": fitted.settings.crosses, "buckets": fitted.settings.table_size}
        notes["dense_features"] = fitted.width
    return built


@step(cache_policy=CACHED, output_materializers={"predictor": PredictorMaterializer})
def train(
    feature_set: FeatureSet,
    ads: TypedAds,
    training_rows: np.ndarray,
    validation_rows: np.ndarray,
    test_rows: np.ndarray,
    lineage: dict[str, str],
    params: dict[str, Any],
    settings: TrainingSettings,
    seed: int,
    store: str,
) -> tuple[
    Annotated[Predictor, output("predictor", "The model that the test ads measure", "model")],
    Annotated[pd.DataFrame, output("curve", "Losses and validation RMSE by epoch", "model")],
    Annotated[int, output("epochs", "The epoch with the least validation RMSE", "model")],
    Annotated[dict[str, str], output("logged_model", "Its ids in MLflow", "model", "mlflow")],
]:
    """Fit with early stopping; log parameters, curves and the model.

    ``params`` is all that decides the model, for MLflow.
    ``store`` names the MLflow store: a run cached in another one would not be found.
    """
    del store
    with noted() as notes, tracked_run("training", tags=lineage) as run:
        run.log_params(params)
        learnt = TrainingAds(ads, training_rows)
        epochs = 1 if feature_set.builder.settings.crosses else settings.epochs_max
        on_epoch = partial(show_epoch, total=epochs)
        trained = fit(feature_set, settings, seed, on_epoch, ads=learnt)
        curve = trained.curve()
        run.log_curves({name: curve[name].tolist() for name in ("train_loss", "validation_rmse")})
        run.log_metrics({"best_epoch": trained.best_epoch})
        log_sellers(run, ads.frame(training_rows, ["user_id"])["user_id"])
        judged = trained.predictor
        calibrated = calibrate_intervals(judged, judged, ads.frame(validation_rows))
        predictor = calibrate_percentiles(calibrated, ads.frame(_sample(training_rows, seed)))
        model_id = log_model(run, predictor, ads.frame(test_rows[:SAMPLES_MAX]))
        notes |= {"best_epoch": trained.best_epoch, "mlflow_run": run.run_id}
    logged = {"run_id": run.run_id, "model_id": model_id, "trained": today()}
    return predictor, curve, trained.best_epoch, logged


@step(cache_policy=CACHED)
def baselines(
    ads: TypedAds,
    training_rows: np.ndarray,
    validation_rows: np.ndarray,
    test_rows: np.ndarray,
    seed: int,
) -> Annotated[
    pd.DataFrame, output("baseline_answers", "Answers of the mean, category means, MLP", "baseline")
]:
    """Answer the test ads with the mean, the category means and the report's MLP."""
    with noted():
        # The baselines stop by no validation, so its rows are theirs to learn from.
        parts = (training_rows, validation_rows)
        known = pd.concat([ads.frame(rows, MEANS_COLUMNS) for rows in parts], ignore_index=True)
        rows = np.concatenate(parts)[drawn_rows(len(known), seed)]
        order = np.argsort(rows)
        drawn = ads.frame(rows[order]).set_axis(order).sort_index()
        return pd.DataFrame(baseline_answers(known, drawn, ads.frame(test_rows), seed))


@step(cache_policy=CACHED, output_materializers={"served": PredictorMaterializer})
def refit(
    predictor: Predictor,
    epochs: int,
    ads: TypedAds,
    training_rows: np.ndarray,
    validation_rows: np.ndarray,
    test_rows: np.ndarray,
    settings: TrainingSettings,
    checks: CheckSettings,
    seed: int,
) -> tuple[
    Annotated[Predictor, output("served", "The model to serve, fitted on all ads", "model")],
    Annotated[dict[str, Any], output("fits", "How it was fitted, and when", "model")],
    Annotated[dict[str, Any], output("market", "Statistics of the ads it learnt from", "model")],
    Annotated[Path, output(REPORTS, "Its behaviour checks", "report")],
]:
    """Return the model that is to serve: ``predictor`` itself where no refit is asked for.

    Nor is there one where so few of all ads were held out that it could hardly learn more.

    ``fits`` are those of :class:`demand.reports.card.ModelFacts`, and the day of the fit where
    there was one. The refitted model must behave like any other: its critical checks stop the
    pipeline, too. ``market`` sums up the ads that the model to serve has learnt from.
    """
    with noted() as notes, reported() as reports:
        fits = {"epochs": epochs, "crosses": bool(predictor.features.crosses)}
        held = len(validation_rows) + len(test_rows)
        share = held / (held + len(training_rows))
        if not settings.refit or share < settings.refit_share_min:
            # The validation ads ended its training, and calibrated it.
            market = _market(ads, training_rows, validation_rows)
            return predictor, {"refit": False} | fits, market, reports
        every = np.sort(np.concatenate([training_rows, validation_rows, test_rows]))
        learnt, on_epoch = TrainingAds(ads, every), partial(show_epoch, total=epochs)
        fitted = fit_again(learnt, epochs, predictor.features, settings, seed, on_epoch)
        fitted = calibrate_percentiles(fitted, ads.frame(_sample(every, seed)))
        test_ads = ads.frame(test_rows)
        held_out = pd.concat([ads.frame(validation_rows), test_ads], ignore_index=True)
        served = calibrate_intervals(fitted, predictor, held_out)
        found = run_checks(served, test_ads, behaviour_only(checks))
        overview, _ = write_checks(found, reports / "served")
        if found.refusal is not None:
            reason = f"after the refit on all ads: {found.refusal}"
            refuse("checks", reason, served_checks=shown(overview))
        moved = float(np.mean(np.abs(served.predict(test_ads) - predictor.predict(test_ads))))
        notes |= {"refit_rows": len(every), "refit_mean_difference": moved}
        fits |= {"refit": True, "rows": len(every), "difference": moved}
        market = _market(ads, training_rows, validation_rows, test_rows)
        return served, fits | {"trained": today()}, market, reports


def _sample(rows: np.ndarray, seed: int) -> np.ndarray:
    """Draw as many rows as percentiles need, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:_PERCENTILE_ROWS_MAX])


def _market(ads: TypedAds, *parts: np.ndarray) -> dict[str, Any]:
    rows = np.sort(np.concatenate(parts))
    return category_statistics(blocks_shown(ads.blocks(rows), len(rows)))
