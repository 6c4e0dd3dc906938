"""The model server as ZenML knows it: ``zenml model-deployer models list`` shows it.

ZenML's own MLflow deployer stops the old server before the new one answers, so the
deployment itself is done by :mod:`demand.serving`; here it is only registered, as a
service that asks the installation how it stands.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from zenml.client import Client
from zenml.integrations.mlflow.services.mlflow_deployment import (
    MLFlowDeploymentConfig,
    MLFlowDeploymentService,
)
from zenml.services import ServiceState
from zenml.services.local.local_service import LocalDaemonServiceStatus
from zenml.utils import source_utils

from demand.registry.registry import Registry
from demand.serving.deployment import Deployment, active, serve, status, stop
from demand.workspace.workspace import Workspace, write_aside
from orchestration.model_versions import model_version

NAME = "demand"


class ModelServer(MLFlowDeploymentService):
    """The installation's model server; ``config.root_runtime_path`` is its ``DEMAND_HOME``."""

    @property
    def _workspace(self) -> Workspace:
        return Workspace(Path(str(self.config.root_runtime_path)))

    def check_status(self) -> tuple[ServiceState, str]:
        """Ask the server itself."""
        found = status(self._workspace)
        if not found.healthy:
            return ServiceState.INACTIVE, found.problem or "not serving"
        endpoint = self.endpoint.status
        endpoint.state = ServiceState.ACTIVE
        return ServiceState.ACTIVE, f"serving version {found.version}"

    def provision(self) -> None:
        """Serve the champion; what ZenML calls to start a service."""
        serve(workspace=self._workspace)

    def deprovision(self, force: bool = False) -> None:
        """Stop what serves; it is always asked politely first."""
        del force
        stop(self._workspace)

    def get_logs(self, follow: bool = False, tail: int | None = None) -> Generator[str, bool, None]:
        """Yield the last lines of the server's log."""
        del follow
        deployment = active(self._workspace)
        log = Path(deployment.server.log) if deployment else None
        lines = log.read_text("utf-8", "replace").splitlines() if log and log.exists() else []
        yield from lines[-tail:] if tail else lines


def register_served_model(workspace: Workspace, *, anew: bool) -> None:
    """Tell ZenML's store what serves now; entries of this installation before it are dropped.

    Without ``anew`` nothing is registered where no entry was: somebody deploys without ZenML.
    """
    client, deployment = Client(), active(workspace)
    known = [
        entry
        for entry in client.list_services(service_name=NAME, hydrate=True).items
        if entry.config.get("root_runtime_path") == str(workspace.root)
    ]
    if deployment is None or not (known or anew):
        return
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
        root_runtime_path=str(workspace.root),
    )
    for entry in known:
        client.delete_service(entry.id)
    version = model_version(Registry(workspace).version(deployment.version))
    kind, version_id = ModelServer.SERVICE_TYPE, version.id if version else None
    entry = client.create_service(config, kind, model_version_id=version_id)
    service = ModelServer(uuid=entry.id, config=config, status=_status(deployment, workspace))
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


def _status(deployment: Deployment, workspace: Workspace) -> LocalDaemonServiceStatus:
    """Return a status whose process ZenML can look up, by a file with its number."""
    told = LocalDaemonServiceStatus(runtime_path=str(workspace.serving / "zenml"))
    with write_aside(Path(str(told.pid_file))) as aside:
        aside.write_text(str(deployment.server.pid), encoding="ascii")
    return told
