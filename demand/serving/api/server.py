"""The API as a process: gunicorn in front of the Flask application."""

from __future__ import annotations

import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from demand.errors import ConfigError
from demand.serving.api.application import create_app
from demand.serving.api.champions import Champions, FixedModel, FollowedChampion
from demand.serving.api.settings import ApiSettings
from demand.serving.api.telemetry import AccessLog
from demand.serving.api.upstream import ModelServerUpstream, active_address
from demand.serving.listening import listen
from demand.state import home

# Far more threads than requests that are let in, so that the others hear no at once.
_THREADS_BESIDE = 48
_KEEP_ALIVE_S = 75
_GRACE_S = 15
_SILENT_S = 60
_CLIENT_S = 30.0


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
    address = None if place.model_server is None else _checked(place.model_server)
    if place.model is not None:
        # What is wrong with it is better said here than by every worker.
        FixedModel(*place.model)
    with listen(place.host, place.port) as listener:
        bound = listener.getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        print(f"the API answers at http://{shown}:{bound[1]}", file=sys.stderr, flush=True)
        descriptor = os.dup(listener.fileno())
        os.set_inheritable(descriptor, True)
        _Gunicorn(descriptor, settings, lambda: _application(place.model, address, settings)).run()


def _application(
    model: tuple[Path, str] | None, address: str | None, settings: ApiSettings
) -> Flask:
    """Return the application; called in the worker, whose threads it starts."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    champions: Champions
    if model is not None:
        champions = FixedModel(*model)
    else:
        followed = FollowedChampion(home())
        followed.start()
        champions = followed
    where = active_address(home()) if address is None else lambda: address
    log = AccessLog() if settings.access_log else None
    return create_app(champions, ModelServerUpstream(where), settings, log)


class _ImpatientSocket(socket.socket):
    """A socket of which no read or write blocks for longer than ``_CLIENT_S``."""

    def setblocking(self, flag: bool) -> None:
        """Block, but not for ever; or not at all."""
        self.settimeout(_CLIENT_S if flag else 0.0)


class ImpatientWorker(ThreadWorker):  # type: ignore[misc]
    """Gunicorn's worker of threads, for which a request that stops coming has an end.

    By itself it lets a client hold a thread for as long as it likes.
    """

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to a thread, with a socket that does not wait for ever."""
        if not isinstance(conn.sock, _ImpatientSocket):
            conn.sock = _ImpatientSocket(fileno=conn.sock.detach())
        super().enqueue_req(conn)


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    """Gunicorn without its command line: one process, whose threads share the model."""

    def __init__(self, descriptor: int, settings: ApiSettings, load: Any) -> None:
        self._descriptor = descriptor
        self._settings = settings
        self._load = load
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": f"fd://{self._descriptor}",
            "worker_class": f"{__name__}.ImpatientWorker",
            "workers": 1,
            "threads": self._settings.in_flight + self._settings.passed_on + _THREADS_BESIDE,
            "keepalive": _KEEP_ALIVE_S,
            "timeout": _SILENT_S,
            "graceful_timeout": _GRACE_S,
            "loglevel": "warning",
            "proc_name": "demand-api",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._load()  # type: ignore[no-any-return]


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(f"{url!r} is no URL of a model server, such as http://127.0.0.1:8790")
    return f"http://{parts.netloc}"
