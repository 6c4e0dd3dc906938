"""Train the network and log it to MLflow."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
from zenml import step

from demand.config import TrainingSettings
from demand.features.feature_set import FeatureSet
from demand.predictor import Predictor
from demand.progress import epochs_shown
from demand.refitting import calibrated, ranked
from demand.serving.mlflow_model import SAMPLES_MAX, log_model
from demand.serving.promotion import log_sellers
from demand.serving.tracking import tracked_run
from demand.trainer import train as fit
from steps.common import CACHED, timed
from steps.materializers import PredictorMaterializer


@step(cache_policy=CACHED, output_materializers={"predictor": PredictorMaterializer})
def train(
    feature_set: FeatureSet,
    training_ads: pd.DataFrame,
    validation_ads: pd.DataFrame,
    test_ads: pd.DataFrame,
    lineage: dict[str, str],
    params: dict[str, Any],
    settings: TrainingSettings,
    seed: int,
    store: str,
) -> tuple[
    Annotated[Predictor, "predictor"],
    Annotated[pd.DataFrame, "curve"],
    Annotated[int, "epochs"],
    Annotated[dict[str, str], "logged_model"],
]:
    """Fit with early stopping; log parameters, curves and the model.

    ``params`` is all that decides the model, for MLflow.
    ``store`` names the MLflow store: a run cached in another one would not be found.
    """
    del store
    with timed(), tracked_run("training", tags=lineage) as run:
        run.log_params(params)
        with epochs_shown(settings.epochs_max) as on_epoch:
            trained = fit(feature_set, settings, seed, on_epoch)
        curve = trained.curve()
        run.log_curves({name: curve[name].tolist() for name in ("train_loss", "validation_rmse")})
        run.log_metrics({"best_epoch": trained.best_epoch})
        log_sellers(run, training_ads["user_id"])
        judged = trained.predictor
        predictor = ranked(calibrated(judged, judged, validation_ads), training_ads)
        model_id = log_model(run, predictor, test_ads.head(SAMPLES_MAX))
    return predictor, curve, trained.best_epoch, {"run_id": run.run_id, "model_id": model_id}
