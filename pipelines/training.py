"""From a file of ads to a model that answers."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from demand.config import TrainingConfig, Until
from demand.data.lineage import model_settings
from orchestration.alerter import run_failed
from steps.data import ingest, split, trace, validate
from steps.evaluation import check, evaluate
from steps.model import baselines, build_features, refit, train
from steps.registry import package, promote
from steps.serving import deploy


# The first failure ends the run and keeps its reason: a gate must not be outrun.
@pipeline(
    name="training",
    execution_mode=ExecutionMode.FAIL_FAST,
    tags=["training", "demand"],
    on_failure=run_failed,
)
def training(
    path: str,
    md5: str,
    config: TrainingConfig,
    fingerprint: str,
    store: str,
    champion: str | None = None,
    demo: tuple[int, int] | None = None,
    until: Until = "deploy",
) -> None:
    """Ingest, validate, split, train, check, evaluate; then refit, package, promote, deploy."""
    ads, unparsed, lines = ingest(path, md5, config.data.max_file_gb)
    lineage = trace(ads, path, md5)
    accepted, data_warnings, _, _ = validate(ads, unparsed, lines, config.validation)
    *parts, rows = split(ads, accepted, config.split, config.seed)
    training, validation, test = parts
    params = model_settings(config)
    feature_set = build_features(ads, training, validation, config.features, config.seed)
    predictor, curve, epochs, logged_model = train(
        feature_set, ads, *parts, lineage, params, config.training, config.seed, store
    )
    answers = baselines(ads, *parts, config.seed)
    check_warnings, _, _, _ = check(predictor, ads, training, test, answers, config.checks)
    told = (logged_model, lineage, rows)
    gate = (config.gate, config.seed, champion, demo)
    metrics, _, evaluation = evaluate(
        predictor, curve, ads, test, answers, *told, *gate, after=[check]
    )
    if until == "evaluate":
        return
    settings = (config.training, config.checks, config.seed)
    served, fits, market, _ = refit(predictor, epochs, ads, *parts, *settings, after=[evaluate])
    fitted, warnings = (served, predictor, fits, market), (data_warnings, check_warnings)
    served_model, _, _ = package(
        *fitted, evaluation, metrics, ads, test, *told, *warnings, params, config.gate, demo
    )
    version, promoted = promote(
        served_model, metrics, lineage, *warnings, fingerprint, champion, config.gate
    )
    if until == "deploy":
        deploy(version, promoted, config.deploy)
