"""Making another version serve, and undoing that if it cannot."""

from __future__ import annotations

from demand.config import DeploySettings
from demand.serving.registry import Registry
from demand.serving.server import Deployment, deploy


def roll_out(version: str, settings: DeploySettings) -> Deployment:
    """Serve the champion ``version``; if it has never served and cannot, it is none.

    A champion that has served stays one, whatever becomes of its server now.

    Raises
    ------
    DemandError
        As :func:`demand.serving.server.deploy`; what served before still serves.
    """
    registry = Registry()
    champion = registry.version(version)
    try:
        deployment = deploy(champion, settings)
    except BaseException as error:
        # Ctrl-C too: what the registry calls champion must be what serves.
        if not champion.has_served:
            registry.withdraw(version, f"its deployment failed: {error!r}")
        raise
    registry.mark_served(version)
    return deployment


def roll_back(to: str | None, reason: str, settings: DeploySettings) -> Deployment:
    """Make ``previous``, or the version named, champion again, and serve it.

    Raises
    ------
    DemandError
        There is no such version, or it cannot be served. Then the champion stays.
    """
    registry = Registry()
    version = registry.rollback(to, reason)
    try:
        return deploy(version, settings)
    except BaseException as error:
        registry.withdraw(version.version, f"its deployment failed: {error!r}")
        raise
