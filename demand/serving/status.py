"""How things stand with what serves: what the record, its server and the registry say."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from demand.errors import DemandError, ServingError
from demand.serving.processes import ServerProcess
from demand.serving.registry import Registry
from demand.serving.server import Deployment, active
from demand.serving.versions import RegisteredVersion
from demand.state import Home, home

# A model server answers some seconds after its start, on a busy machine perhaps later. One
# that is older and silent hangs, which its supervisor does not see.
_START_S = 60.0


@dataclass(frozen=True)
class Status:
    """The state of serving, as ``demand status`` tells it.

    Parameters
    ----------
    champion
        Version that the registry wants served, or None.
    version, endpoint, pid, since
        Of the recorded server, or None.
    healthy
        The recorded server answers, now.
    data_md5, metrics
        Of the version served.
    problem
        What is wrong, and the command that mends it; None if nothing is.
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


def status(place: Home | None = None) -> Status:
    """Ask the server and the registry how things stand; changes nothing."""
    place = place or home()
    deployment = champion = served = problem = None
    try:
        deployment = active(place)
    except ServingError as error:
        problem = str(error)
    healthy = deployment is not None and deployment.server.answers()
    try:
        registry = Registry(place) if place.mlflow_database.exists() else None
        champion = registry.champion() if registry else None
        served = registry.version(deployment.version) if registry and deployment else None
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
        problem=problem or _problem(champion, deployment, healthy),
    )


def is_restarting(server: ServerProcess) -> bool:
    """Say whether a server that does not answer will do so by itself.

    That is when its supervisor runs, and what that keeps running has ended or was just
    started; see :mod:`demand.serving.supervisor`.
    """
    supervisor = server.process()
    if supervisor is None:
        return False
    try:
        started = [
            child.create_time()
            for child in supervisor.children()
            if child.status() != psutil.STATUS_ZOMBIE
        ]
    except psutil.NoSuchProcess:
        # One of the two has just ended.
        return server.process() is not None
    return all(time.time() - at < _START_S for at in started)


def _problem(
    champion: RegisteredVersion | None, deployment: Deployment | None, healthy: bool
) -> str | None:
    if champion is None:
        return "no model was promoted yet: run `python run.py --pipeline training`"
    if deployment is None:
        return "nothing is serving: run `demand serve`"
    if not healthy and is_restarting(deployment.server):
        return (
            f"the model server {deployment.endpoint} ended, and its supervisor starts it again: "
            f"wait some seconds; if it stays so, {deployment.server.log} tells why, and "
            "`demand serve` starts another"
        )
    if not healthy:
        return f"the model server {deployment.endpoint} does not answer: run `demand serve`"
    if deployment.version != champion.version:
        return (
            f"version {deployment.version} is serving, but the champion is {champion.version}: "
            "run `demand serve`"
        )
    return None
