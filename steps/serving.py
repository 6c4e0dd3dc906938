"""Steps that serve: the deployment, batch inference, and the evaluation of what serves."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from zenml import step
from zenml.types import HTMLString

from demand.config import DeploySettings, GateSettings
from demand.errors import GateRefusal
from demand.features.known_values import KnownValues
from demand.monitoring.production import REPORT_FILE, evaluate_endpoint
from demand.registry.model_files import MARKET_FILE, load_predictor
from demand.registry.registry import Registry
from demand.reports.markdown import markdown_page
from demand.reports.training import METRICS_FILE
from demand.serving.batch import answer_file
from demand.serving.deployment import roll_out
from demand.workspace.workspace import write_aside, write_json
from orchestration.model_versions import follow_aliases
from orchestration.steps import REPORTS, noted, output, refuse, reported


@step(enable_cache=False)
def deploy(
    version: str, promoted: bool, settings: DeploySettings
) -> Annotated[str, output("endpoint", "URL of the deployed model server", "deployment")]:
    """Serve the champion; return the URL of ``/invocations``, once it answers as the Predictor.

    Refuses where somebody made another version champion meanwhile: that one serves.
    ``promoted`` says whether this run made ``version`` champion.
    """
    with noted() as notes:
        deployment = roll_out(version, settings, promoted=promoted)
        follow_aliases(deployed=True)
        notes |= {"endpoint": deployment.endpoint, "pid": deployment.server.pid}
        if deployment.version != version:
            raise GateRefusal(
                "champion",
                f"version {deployment.version} was made champion before version {version} could "
                "serve: see `demand history`",
            )
    return deployment.endpoint


# Never cached: the file is to be written each time.
@step(enable_cache=False)
def batch_inference(
    path: str, output_file: str, version: str, max_file_gb: float
) -> Annotated[dict[str, Any], output("answered", "Rows, answers and warnings", "answers")]:
    """Write the answers of ``version`` beside nothing but the ids of the ads."""
    with noted() as notes:
        registered = Registry().version(version)
        predictor = load_predictor(registered)
        known = KnownValues.from_file(registered.source / MARKET_FILE)
        answered = answer_file(
            predictor,
            Path(path),
            Path(output_file),
            model=registered.files_sha256,
            max_file_gb=max_file_gb,
            known=known,
        )
        notes |= {"rows": answered.rows, "answered": answered.answered, "version": version}
    return asdict(answered) | {"warnings": list(answered.warnings)}


# Never cached: what serves changes without a change of any input.
@step(enable_cache=False)
def production_evaluation(
    path: str, url: str | None, rows: int, settings: GateSettings, seed: int, max_file_gb: float
) -> tuple[
    Annotated[dict[str, Any], output("metrics", "Errors and speed of what serves", "metrics")],
    Annotated[HTMLString, output("production_evaluation", "The same, to read", "report")],
    Annotated[Path, output(REPORTS, "Figures and text of the evaluation", "report")],
]:
    """Send labelled ads through the endpoint; refuse it where it is not the registered model."""
    with noted() as notes, reported() as reports:
        found = evaluate_endpoint(
            Path(path), url, rows, settings=settings, seed=seed, max_file_gb=max_file_gb
        )
        write_json(reports / METRICS_FILE, found.metrics)
        with write_aside(reports / REPORT_FILE) as aside:
            aside.write_text(found.report, encoding="utf-8")
        page = HTMLString(markdown_page(found.report, "Production evaluation"))
        notes |= {f"production_{name}": found.metrics[name] for name in ("rmse", "mse", "mae", "n")}
        if not found.decision.passed:
            refuse(found.decision.gate, found.decision.reason, production_evaluation=page)
    return found.metrics, page, reports
