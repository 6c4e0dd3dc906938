"""The API as processes: workers that share the memory of a loaded model."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

from demand.errors import ConfigError
from demand.production_log.store import ProductionLog, current_log
from demand.serving.api.model_provider import (
    FixedModel,
    FollowedChampion,
    ModelProvider,
    ModelServerProxy,
)
from demand.serving.deployment import active_or_none
from demand.serving.http.middleware import Headers, Hosts, RequestLimits, Timeouts
from demand.serving.http.server import HEAD_S, DroppingHandler, serve
from demand.workspace.workspace import current_workspace

if TYPE_CHECKING:
    from starlette.types import ASGIApp

# The folder in which workers count together, as prometheus_client reads it when it is imported.
SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"
# A file of shared metrics, larger than all labels there are take, and the kinds of them.
_FILE_BYTES = 2**20
_KINDS = ("counter", "histogram", "gauge_livesum")
# Bodies of the largest size that may be on their way to a worker at a time.
_BODIES_AT_ONCE = 8
_log = logging.getLogger("demand.api")


@dataclass(frozen=True)
class ApiSettings:
    """Limits and doors of the API.

    A request has so many bytes of body and ads at most, 413 beyond, which bounds the time of an
    answer, too; and ``head_s`` seconds for its head, then the timeouts. A worker has so many
    ``batches`` (requests of more than a few ads) at a time, and so many passed on to the model
    server, those included that wait until one that was killed is back; 503 beyond. Workers are
    the processes that answer, since one interpreter keeps one core busy; they share the pages of
    memory that they were forked with. Requests must carry the bearer token, unless that is None;
    sites at the ``origins`` may ask (CORS), none by default, by the allowed names of hosts besides
    those of loopback. The access log is one line of JSON a request on standard error.
    """

    body_bytes: int = 16 * 2**20
    ads: int = 10_000
    batches: int = 16
    passed_on: int = 128
    workers: int = 1
    token: str | None = None
    origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    access_log: bool = True
    head_s: float = HEAD_S
    timeouts: Timeouts = field(default_factory=Timeouts)


def serve_api(
    host: str,
    port: int,
    settings: ApiSettings,
    *,
    model: tuple[Path, str] | None = None,
    model_server: str | None = None,
) -> None:
    """Serve until a signal ends it.

    It answers with the model of a folder, which has a version, or follows the registry's champion;
    behind it is the model server at the root of these URLs, or the active deployment's.

    Raises
    ------
    ServingError
        The port is taken, or the host is not one of this machine.
    ConfigError
        The URL of the model server is none, or that of the production log.
    ModelError
        The folder of ``model`` holds no whole model.
    """
    line = "%(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=line, handlers=[DroppingHandler()])
    workspace = current_workspace()
    root = None if model_server is None else _checked(model_server)
    # Before the workers are forked, so that they share its memory.
    models = FixedModel(*model) if model else FollowedChampion(workspace)
    if isinstance(models, FollowedChampion):
        models.look()
        models.look_back()
    hosts = Hosts(host, settings.allowed_hosts, settings.origins)
    log = current_log(workspace)

    def address() -> str | None:
        deployment = None if root else active_or_none(workspace)
        return deployment.server.address if deployment else root

    with contextlib.ExitStack() as stack:
        metrics = None
        try:
            folder = TemporaryDirectory(prefix="demand-api-", ignore_cleanup_errors=True)
            metrics = Path(stack.enter_context(folder))
        except OSError as error:
            _log.warning("each worker counts for itself: %s", error)

        def load() -> ASGIApp:
            if metrics is not None:
                share_metrics(metrics)
            if isinstance(models, FollowedChampion):
                models.start()
            return _application(models, ModelServerProxy(address), settings, hosts, log)

        told = "the API answers at {url}"
        serve(load, host, port, workers=settings.workers, head_s=settings.head_s, announce=told)


def _application(
    models: ModelProvider,
    upstream: ModelServerProxy,
    settings: ApiSettings,
    hosts: Hosts,
    log: ProductionLog | None,
) -> ASGIApp:
    """Return the API as one ASGI application: limits, admission, Flask."""
    # They import prometheus_client, which reads the environment when it is imported.
    from demand.serving.api.application import HEADERS, FlaskOnLoop, create_app, problem
    from demand.serving.api.telemetry import Telemetry

    telemetry = Telemetry(models, DroppingHandler() if settings.access_log else None)

    def refusal(status: int, reason: str) -> tuple[Headers, bytes]:
        telemetry.record("refused", status, 0.0)
        headers = {"Content-Type": "application/problem+json", **HEADERS}
        told = [(name.encode(), value.encode()) for name, value in headers.items()]
        return told, problem(status, reason).get_data()

    flask = create_app(models, upstream, settings, telemetry, log)
    app, largest = FlaskOnLoop(flask, settings, telemetry), settings.body_bytes
    together = _BODIES_AT_ONCE * largest
    return RequestLimits(app, hosts, lambda _: largest, refusal, together, settings.timeouts)


def share_metrics(folder: Path) -> None:
    """Let this worker count into files of a folder, together with others.

    It must be called before prometheus_client is imported. Files of gauges whose worker is gone
    are deleted; what it has counted stays. A file that is mapped into memory ends its process
    (SIGBUS) where the disk is too full for a page of it: so the room is taken before anything is
    counted, and where there is none this worker counts for itself.
    """
    try:
        for path in folder.glob("gauge_live*.db"):
            if not psutil.pid_exists(int(path.stem.rpartition("_")[2])):
                path.unlink(missing_ok=True)
        for kind in _KINDS:
            path = folder / f"{kind}_{os.getpid()}.db"
            if not path.exists():  # else of a process of this id that is gone
                path.write_bytes(bytes(_FILE_BYTES))
    except OSError as error:
        for path in folder.glob(f"*_{os.getpid()}.db"):
            path.unlink()
        _log.warning("no room for shared metrics, each worker tells its own: %s", error.strerror)
        os.environ.pop(SHARED_METRICS, None)
    else:
        os.environ[SHARED_METRICS] = str(folder)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(f"{url!r} is no URL of a model server, such as http://127.0.0.1:8790")
    return f"http://{parts.netloc}"
