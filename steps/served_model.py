"""The model server as ZenML knows it: ``zenml model-deployer models list`` shows it.

ZenML's own MLflow deployer stops the old server before the new one answers, so the
deployment itself is done by :mod:`demand.serving`; here it is only registered, as a
service that asks the installation how it stands.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from zenml.client import Client
from zenml.enums import StackComponentType
from zenml.integrations.mlflow.services.mlflow_deployment import (
    MLFlowDeploymentConfig,
    MLFlowDeploymentService,
)
from zenml.services import ServiceState
from zenml.services.local.local_service import LocalDaemonServiceStatus
from zenml.utils import source_utils

from demand.config import DeploySettings
from demand.serving import server
from demand.serving.status import status
from demand.state import Home, write_aside

NAME = "demand"
STACK = "avito-demand"


class ModelServer(MLFlowDeploymentService):
    """The installation's model server; ``config.root_runtime_path`` is its ``DEMAND_HOME``."""

    @property
    def _place(self) -> Home:
        return Home(Path(str(self.config.root_runtime_path)))

    def check_status(self) -> tuple[ServiceState, str]:
        """Ask the server itself."""
        found = status(self._place)
        if not found.healthy:
            return ServiceState.INACTIVE, found.problem or "not serving"
        endpoint = self.endpoint.status
        endpoint.state = ServiceState.ACTIVE
        return ServiceState.ACTIVE, f"serving version {found.version}"

    def provision(self) -> None:
        """Serve the champion; what ZenML calls to start a service."""
        server.serve(DeploySettings(), self._place)

    def deprovision(self, force: bool = False) -> None:
        """Stop what serves; it is always asked politely first."""
        del force
        server.stop(self._place)

    def get_logs(self, follow: bool = False, tail: int | None = None) -> Generator[str, bool, None]:
        """Yield the last lines of the server's log."""
        del follow
        deployment = server.active(self._place)
        log = Path(deployment.server.log) if deployment else None
        lines = log.read_text("utf-8", "replace").splitlines() if log and log.exists() else []
        yield from lines[-tail:] if tail else lines


def register_served_model(deployment: server.Deployment, place: Home) -> None:
    """Tell ZenML's store what serves now; entries of this installation before it are dropped."""
    client = Client()
    config = MLFlowDeploymentConfig(
        name=NAME,
        service_name=NAME,
        model_uri=f"models:/{NAME}/{deployment.version}",
        model_name=NAME,
        model_version=deployment.version,
        registry_model_name=NAME,
        registry_model_version=deployment.version,
        pipeline_name="training",
        pipeline_step_name="deploy",
        root_runtime_path=str(place.root),
    )
    for known in client.list_services(service_name=NAME, hydrate=True).items:
        if known.config.get("root_runtime_path") == str(place.root):
            client.delete_service(known.id)
    entry = client.create_service(config=config, service_type=ModelServer.SERVICE_TYPE)
    service = ModelServer(uuid=entry.id, config=config, status=_status(deployment, place))
    service.endpoint.status.hostname = deployment.server.host
    service.endpoint.status.port = deployment.server.port
    service.update_status()
    client.update_service(
        id=entry.id,
        service_source=source_utils.resolve(ModelServer).import_path,
        admin_state=ServiceState.ACTIVE,
        status=service.status.model_dump(),
        endpoint=service.endpoint.model_dump(),
        prediction_url=deployment.endpoint,
        health_check_url=f"{deployment.server.address}/ping",
    )


def _status(deployment: server.Deployment, place: Home) -> LocalDaemonServiceStatus:
    """Return a status whose process ZenML can look up, by a file with its number."""
    folder = place.serving / "zenml"
    told = LocalDaemonServiceStatus(runtime_path=str(folder))
    with write_aside(Path(str(told.pid_file))) as aside:
        aside.write_text(str(deployment.server.pid), encoding="ascii")
    return told


def ensure_stack() -> None:
    """Register a stack with a model deployer, without which ZenML's CLI lists no models.

    It becomes the active one only in place of ZenML's own ``default``; a stack that
    somebody chose stays.
    """
    client = Client()
    stacks = {stack.name: stack for stack in client.list_stacks(size=1000).items}
    if STACK not in stacks:
        default = stacks["default"].components
        parts: dict[StackComponentType, Any] = {
            kind: default[kind][0].id
            for kind in (StackComponentType.ORCHESTRATOR, StackComponentType.ARTIFACT_STORE)
        }
        kind = StackComponentType.MODEL_DEPLOYER
        # A run that was killed between the two may have left the component.
        known = client.list_stack_components(name=STACK, type=kind).items
        deployer = (
            known[0]
            if known
            else client.create_stack_component(
                name=STACK, flavor="mlflow", component_type=kind, configuration={}
            )
        )
        parts[kind] = deployer.id
        client.create_stack(name=STACK, components=parts)
    if "ZENML_ACTIVE_STACK_ID" not in os.environ and client.active_stack_model.name == "default":
        client.activate_stack(STACK)
