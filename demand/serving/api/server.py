"""The API as processes: gunicorn's, each with an event loop in front of the Flask application."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from demand.errors import ConfigError
from demand.serving.api.application import create_app
from demand.serving.api.champions import FixedModel, FollowedChampion
from demand.serving.api.front import Front
from demand.serving.api.settings import ApiSettings
from demand.serving.api.telemetry import AccessLog, Telemetry, share_metrics
from demand.serving.api.upstream import ModelServerUpstream, active_address
from demand.serving.api.workers import Follow, Gunicorn
from demand.serving.listening import listen
from demand.state import home


@dataclass(frozen=True)
class ApiPlace:
    """Where the API listens, and what stands behind it.

    Parameters
    ----------
    host, port
        Where it listens.
    model
        Folder of a model to answer with, and its version; None: the registry's champion
        is followed.
    model_server
        Root of the URLs of the model server; None: the active deployment's.
    """

    host: str
    port: int
    model: tuple[Path, str] | None
    model_server: str | None


def serve_api(place: ApiPlace, settings: ApiSettings) -> None:
    """Serve until a signal ends it; returns by ``SystemExit``.

    Raises
    ------
    ServingError
        The port is taken, or the host is not one of this machine.
    ConfigError
        The URL of the model server is none.
    ModelError
        The folder of ``place.model`` holds no whole model.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    address = None if place.model_server is None else _checked(place.model_server)
    with listen(place.host, place.port) as listener:
        bound = listener.getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        print(f"the API answers at http://{shown}:{bound[1]}", file=sys.stderr, flush=True)
        descriptor = listener.detach()  # a second one would listen on after the workers' end
        os.set_inheritable(descriptor, True)
        with _folder_of_this_process() as metrics:
            share_metrics(metrics)
            Gunicorn(descriptor, settings, *_parts(place, address, settings)).run()


@contextlib.contextmanager
def _folder_of_this_process() -> Iterator[Path]:
    """Yield a new folder that goes with this process, and not with a worker forked from it.

    A worker that ends leaves by an exception, which comes past here, too.
    """
    folder, owner = Path(tempfile.mkdtemp(prefix="demand-api-")), os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


def _parts(place: ApiPlace, address: str | None, settings: ApiSettings) -> tuple[Front, Follow]:
    """Return what answers, and what each worker calls before it answers."""
    champions: FixedModel | FollowedChampion
    follow: Follow
    if place.model is not None:
        champions, follow = FixedModel(*place.model), _nothing
    else:
        champions = FollowedChampion(home())
        champions.look()
        follow = champions.start
    where = active_address(home()) if address is None else lambda: address
    log = AccessLog() if settings.access_log else None
    telemetry = Telemetry(champions)
    app = create_app(champions, ModelServerUpstream(where), settings, telemetry, log)
    return Front(app.wsgi_app, settings, telemetry.in_flight), follow


def _nothing() -> None:
    """Follow nothing: a model from a folder stays."""


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(f"{url!r} is no URL of a model server, such as http://127.0.0.1:8790")
    return f"http://{parts.netloc}"
