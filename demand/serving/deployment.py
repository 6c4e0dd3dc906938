"""Deploying: the new model server starts beside the old, proves itself, then takes over.

``DEMAND_HOME/serving/active.json`` is the record of what serves; it changes in one
atomic step, after the new server has given the Predictor's own answers and before
the old one is asked to stop. Since both run for a moment, a deployment takes another
port than the one before: the preferred one if it is free, else the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import shutil
import uuid
from collections.abc import Set
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from demand.config import DeploySettings
from demand.errors import DemandError, ModelError, ServingError, StateError
from demand.registry.model_files import copy_model
from demand.registry.packaging import SAMPLES_FILE
from demand.registry.registry import Registry
from demand.registry.versions import RegisteredVersion
from demand.serving.client import Endpoint
from demand.serving.http.server import free_port
from demand.serving.processes import ServerProcess, end, model_servers, start_server
from demand.workspace.workspace import (
    Workspace,
    current_workspace,
    exclusive,
    read_json,
    write_json,
)

# The record of what serves, and the settings of what was stopped.
_ACTIVE, _KEPT_SETTINGS = "active.json", "deploy_settings.json"
# For a server to answer the sample ads.
_PROOF_S = 60.0


@dataclass(frozen=True)
class Deployment:
    """What serves: its process, since when (ISO, UTC), and with which settings.

    The settings are None in a record of before they were kept.
    """

    server: ServerProcess
    started_at: str
    settings: DeploySettings | None = None

    @property
    def version(self) -> str:
        """Version of the registered model."""
        return self.server.version

    @property
    def endpoint(self) -> str:
        """Full URL of ``/invocations``."""
        return f"{self.server.address}/invocations"


_RECORD = TypeAdapter(Deployment)


def changing(purpose: str, workspace: Workspace | None = None) -> AbstractContextManager[None]:
    """Hold the lock of what serves; who needs the registry's, too, takes that one second."""
    return exclusive((workspace or current_workspace()).locks / "serving.lock", purpose, wait=True)


def deploy(
    version: RegisteredVersion, settings: DeploySettings, workspace: Workspace | None = None
) -> Deployment:
    """Serve ``version`` instead of what serves now; within :func:`changing`.

    If it is served already and healthy, nothing changes.

    Raises
    ------
    ServingError
        The new server did not start or gave other answers than the Predictor.
    ModelError
        The model's files are missing or damaged.
    StateError
        The state cannot be written.

    After any of them, and after Ctrl-C, the new server is stopped, and the old one
    serves and is on record. A damaged record counts as none, and without one all that
    runs goes on until the new server has proved itself.
    """
    workspace = workspace or current_workspace()
    old = active_or_none(workspace)
    if old is not None:
        # Without a record, which of those that run serves? All go on until the new one does.
        _end_servers(workspace, keep=old)
        if old.version == version.version and old.server.answers():
            return old
    folder = workspace.serving / version.version
    copy_model(version, folder)
    before = model_servers(workspace.serving)
    try:
        server = _ready_server(folder, version.version, settings, workspace.logs)
        check_answers(server, folder, settings)
        now = datetime.datetime.now(datetime.UTC).isoformat("T", "seconds")
        new = Deployment(server, now, settings)
        write_json(workspace.serving / _ACTIVE, _RECORD.dump_python(new, mode="json"))
    except BaseException:
        # Ctrl-C may come before the start has said which process it is, and after the record.
        _end_servers(workspace, keep=active_or_none(workspace), others=before)
        raise
    if old is not None:
        old.server.stop()
    _end_servers(workspace, keep=new)
    # Free the disk of what served before; the registry keeps every version.
    for each in workspace.serving.iterdir():
        if each.is_dir() and each != folder:
            shutil.rmtree(each, ignore_errors=True)
    return new


def serve(settings: DeploySettings | None = None, workspace: Workspace | None = None) -> Deployment:
    """Serve the champion, as after a reboot; by default with :func:`last_settings`.

    ModelError: there is no champion yet. Other errors are those of :func:`deploy`.
    """
    workspace = workspace or current_workspace()
    with changing("serving the champion", workspace):
        return deploy_champion(settings or last_settings(workspace) or DeploySettings(), workspace)


def deploy_champion(settings: DeploySettings, workspace: Workspace) -> Deployment:
    """Serve what the registry calls champion now, as :func:`serve`; within :func:`changing`.

    Whoever decided what is to serve may have been overtaken while they waited for the lock.
    """
    # Asking a registry that is not there would make one.
    registry = Registry(workspace) if workspace.mlflow_database.exists() else None
    champion = registry.champion() if registry else None
    if registry is None or champion is None:
        raise ModelError(
            "there is no champion yet: run `python run.py --pipeline training` to make one"
        )
    deployment = deploy(champion, settings, workspace)
    if not champion.has_served:
        registry.mark_served(champion.version)
    return deployment


def roll_out(version: str, settings: DeploySettings, *, promoted: bool = True) -> Deployment:
    """Serve the champion after ``version`` was promoted, or another that is champion by now.

    If it has never served and cannot, its promotion is undone, if it was the caller who promoted
    it; a champion that has served stays one, whatever becomes of its server now. Errors are those
    of :func:`serve`, after which what served before still serves.
    """
    workspace = current_workspace()
    registry = Registry(workspace)
    registry.version(version)
    with changing(f"deploying {version}", workspace):
        try:
            return deploy_champion(settings, workspace)
        except BaseException as error:
            # Ctrl-C too: what the registry calls champion must be what serves.
            unserved = not registry.version(version).has_served and not serves(version, workspace)
            if promoted and unserved:
                registry.undo(version, f"its deployment failed: {error!r}")
            raise


def roll_back(to: str | None, reason: str, settings: DeploySettings) -> Deployment:
    """Make ``previous``, or the version named, champion again, and serve it.

    :class:`DemandError`: there is no such version, or it cannot be served; the champion stays.
    """
    workspace = current_workspace()
    registry = Registry(workspace)
    change_id = uuid.uuid4().hex
    with changing("rolling back", workspace):
        try:
            registry.rollback(to, reason, change_id=change_id)
            return deploy_champion(settings, workspace)
        except BaseException as error:
            champion = registry.champion()
            if champion is not None and not serves(champion.version, workspace):
                registry.undo(change_id, f"its deployment failed: {error!r}")
            raise


def stop(workspace: Workspace | None = None) -> bool:
    """Stop what serves; say whether anything did. Its settings are kept for the next."""
    workspace = workspace or current_workspace()
    with changing("stopping", workspace):
        # A full disk must not keep a server from being stopped.
        with contextlib.suppress(ServingError, StateError):
            settings = last_settings(workspace)
            if settings is not None:
                write_json(workspace.root / _KEPT_SETTINGS, settings.model_dump(mode="json"))
        deployment = active_or_none(workspace)
        (workspace.serving / _ACTIVE).unlink(missing_ok=True)
        ran = deployment is not None and deployment.server.stop()
        return _end_servers(workspace, keep=None) or ran


def serves(version: str, workspace: Workspace) -> bool:
    """Say whether ``version`` is on record as serving, and its server runs."""
    now = active_or_none(workspace)
    return now is not None and now.version == version and now.server.process() is not None


def last_settings(workspace: Workspace | None = None) -> DeploySettings | None:
    """Return the settings of the deployment on record, or else of the last that was stopped.

    :class:`StateError`: they are damaged; names the file and the way out.
    """
    workspace = workspace or current_workspace()
    if deployment := active_or_none(workspace):
        server = deployment.server
        return deployment.settings or DeploySettings(host=server.host, port=server.port)
    path = workspace.root / _KEPT_SETTINGS
    if not path.exists():
        return None
    try:
        return DeploySettings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StateError(
            f"{path}, the settings of the last deployment, is damaged: name others with "
            "--config, or delete it"
        ) from error


def active(workspace: Workspace | None = None) -> Deployment | None:
    """Return what is on record as serving; whether it answers is another question.

    :class:`ServingError`: the record is damaged; names it and the way out.
    """
    path = (workspace or current_workspace()).serving / _ACTIVE
    if not path.exists():
        return None
    try:
        return _RECORD.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ServingError(
            f"{path}, the record of what serves, is damaged: run `demand serve` to write it anew"
        ) from error


def active_or_none(workspace: Workspace) -> Deployment | None:
    """Return :func:`active`; a damaged record counts as none."""
    with contextlib.suppress(ServingError):
        return active(workspace)
    return None


def check_answers(server: ServerProcess, folder: Path, settings: DeploySettings) -> None:
    """Send the model's sample ads and compare with the Predictor's own answers.

    :class:`ServingError`: one is missing, no probability, or off by more than the tolerance.
    """
    kept = read_json(folder / SAMPLES_FILE)
    ads, expected = (kept[name][: settings.sample_ads] for name in ("ads", "predictions"))
    with Endpoint(f"{server.address}/invocations", answer_s=_PROOF_S) as endpoint:
        answers = endpoint.ask(ads).answers
    for row, (answer, wanted) in enumerate(zip(answers, expected, strict=True)):
        if abs(answer - wanted) > settings.tolerance:
            raise ServingError(
                f"the model server answers {answer:g} for sample ad {row}, the Predictor {wanted:g}"
                f" (tolerance {settings.tolerance:g}): version {server.version} is not deployed"
            )


def _ready_server(
    folder: Path, version: str, settings: DeploySettings, logs: Path
) -> ServerProcess:
    """Return a new server once it answers, on the first port that stays free until then."""
    log = logs / f"model-server-{version}.log"
    for last in (False, False, True):
        port = free_port(settings.port, settings.host)
        server = start_server(folder, version, settings.host, port, log, settings.allowed_hosts)
        try:
            server.wait_until_ready(settings.startup_timeout_s)
            break
        except ServingError:
            # What was free may be another's by the time that the model is loaded.
            overtaken = server.process() is None and free_port(port, settings.host) != port
            if last or not overtaken:
                raise
    return server


def _end_servers(
    workspace: Workspace, keep: Deployment | None, others: Set[psutil.Process] = frozenset()
) -> bool:
    """End every model server of the installation but one and some others; say whether any ran.

    That is also what a deployment left that was killed half-way.
    """
    kept = None if keep is None else keep.server.pid
    ended = [each for each in model_servers(workspace.serving) - others if each.pid != kept]
    for process in ended:
        end(process)
    return bool(ended)


@dataclasses.dataclass(frozen=True)
class Status:
    """The state of serving, as ``demand status`` tells it.

    ``champion`` is the version that the registry wants served; version, endpoint, pid and
    since are those of the server on record, which is ``healthy`` if it answers now;
    ``problem`` is what is wrong, and the command that mends it. None is what there is not.
    """

    champion: str | None
    version: str | None
    endpoint: str | None
    healthy: bool
    pid: int | None
    since: str | None
    data_md5: str | None
    metrics: dict[str, float]
    problem: str | None


def status(workspace: Workspace | None = None) -> Status:
    """Ask the server and the registry how things stand; changes nothing."""
    workspace = workspace or current_workspace()
    deployment = champion = served = problem = damage = None
    try:
        deployment = active(workspace)
    except ServingError as error:
        problem = str(error)
    healthy = deployment is not None and deployment.server.answers()
    try:
        registry = Registry(workspace) if workspace.mlflow_database.exists() else None
        champion = registry.champion() if registry else None
        served = registry.version(deployment.version) if registry and deployment else None
        # That a server is silent comes first: its own copy of the files may be whole.
        if registry and champion and (healthy or deployment is None):
            damage = registry.damage(champion)
    except DemandError as error:
        problem = problem or str(error)
    return Status(
        champion=champion.version if champion else None,
        version=deployment.version if deployment else None,
        endpoint=deployment.endpoint if deployment else None,
        healthy=healthy,
        pid=deployment.server.pid if deployment else None,
        since=deployment.started_at if deployment else None,
        data_md5=served.data_md5 if served else None,
        metrics=served.metrics if served else {},
        problem=problem or damage or _problem(champion, deployment, healthy),
    )


def _problem(
    champion: RegisteredVersion | None, deployment: Deployment | None, healthy: bool
) -> str | None:
    if champion is None:
        return "no model was promoted yet: run `python run.py --pipeline training`"
    if deployment is None:
        return "nothing is serving: run `demand serve`"
    server = f"the model server {deployment.endpoint}"
    if not healthy and deployment.server.is_restarting():
        return (
            f"{server} ended, and its master starts it again: wait some seconds; if it stays so, "
            f"{deployment.server.log} tells why, and `demand serve` starts another"
        )
    if not healthy:
        return f"{server} does not answer: run `demand serve`"
    serving, wanted = deployment.version, champion.version
    told = f"version {serving} is serving, but the champion is {wanted}: run `demand serve`"
    return told if serving != wanted else None
