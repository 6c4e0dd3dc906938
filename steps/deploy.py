"""Serve the champion with an MLflow model server."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from demand.config import DeploySettings
from demand.serving.rollout import roll_out
from demand.state import home
from steps.common import timed
from steps.served_model import register_served_model


@step(enable_cache=False)
def deploy(version: str, settings: DeploySettings) -> Annotated[str, "endpoint"]:
    """Return the URL of ``/invocations``, once it gives the Predictor's own answers."""
    with timed():
        deployment = roll_out(version, settings)
        register_served_model(deployment, home())
        log_metadata({"endpoint": deployment.endpoint, "pid": deployment.server.pid})
    return deployment.endpoint
