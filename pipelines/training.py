"""From a file of ads to a model that answers."""

from __future__ import annotations

from typing import Literal

from zenml import pipeline
from zenml.enums import ExecutionMode

from demand.config import TrainingConfig
from demand.lineage import model_settings
from steps.baselines import baselines
from steps.build_features import build_features
from steps.check import check
from steps.deploy import deploy
from steps.evaluate import evaluate
from steps.ingest import ingest
from steps.package import package
from steps.promote import promote
from steps.refit import refit
from steps.split import split
from steps.trace import trace
from steps.train import train
from steps.validate import validate


# The first failure ends the run and keeps its reason: a gate must not be outrun.
@pipeline(name="training", execution_mode=ExecutionMode.FAIL_FAST)
def training(
    path: str,
    md5: str,
    config: TrainingConfig,
    fingerprint: str,
    store: str,
    champion: str | None = None,
    demo: tuple[int, int] | None = None,
    until: Literal["evaluate", "promote", "deploy"] = "deploy",
) -> None:
    """Ingest, validate, split, train, check, evaluate; then refit, package, promote, deploy."""
    ads, unparsed, lines = ingest(path, md5, config.data.max_file_gb)
    lineage = trace(ads, path, md5)
    accepted, data_warnings, _, _ = validate(ads, unparsed, lines, config.validation)
    training_ads, validation_ads, test_ads, rows = split(accepted, config.split, config.seed)
    feature_set = build_features(training_ads, validation_ads, config.features, config.seed)
    predictor, curve, epochs, logged_model = train(
        feature_set,
        training_ads,
        validation_ads,
        test_ads,
        lineage,
        model_settings(config),
        config.training,
        config.seed,
        store,
    )
    answers = baselines(training_ads, validation_ads, test_ads, config.seed)
    check_warnings, _, _, _ = check(predictor, training_ads, test_ads, answers, config.checks)
    metrics, _, evaluation = evaluate(
        predictor,
        curve,
        test_ads,
        answers,
        logged_model,
        lineage,
        rows,
        config.gate,
        config.seed,
        champion,
        demo,
        after=[check],
    )
    if until == "evaluate":
        return
    served, fits, market, _ = refit(
        predictor,
        epochs,
        training_ads,
        validation_ads,
        test_ads,
        config.features,
        config.training,
        config.checks,
        config.seed,
        after=[evaluate],
    )
    served_model, _, _ = package(
        served,
        predictor,
        fits,
        market,
        evaluation,
        metrics,
        test_ads,
        logged_model,
        lineage,
        rows,
        data_warnings,
        check_warnings,
        model_settings(config),
        config.gate,
        demo,
    )
    version = promote(
        served_model,
        metrics,
        lineage,
        data_warnings,
        check_warnings,
        fingerprint,
        champion,
        config.gate,
    )
    if until == "deploy":
        deploy(version, config.deploy)
