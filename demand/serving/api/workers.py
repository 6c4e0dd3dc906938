"""Gunicorn's processes and threads, taught patience and its end."""

from __future__ import annotations

import gc
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from demand.serving.api.overload import TURN
from demand.serving.api.settings import ApiSettings
from demand.serving.api.telemetry import forget_worker

Follow = Callable[[], None]

# Far more threads than requests that are let in, so that the others hear no at once.
_THREADS_BESIDE = 48
_KEEP_ALIVE_S = 75
_GRACE_S = 15
_SILENT_S = 60
_CLIENT_S, _REQUEST_S = 30.0, 120.0
# How long a thread waits for the first byte of a new connection, before the main thread does.
_FIRST_S = 5.0
# How long a thread waits for the next request of a connection that it has just answered.
_LINGER_MS = 20


class Gunicorn(BaseApplication):  # type: ignore[misc]
    """Gunicorn without its command line: workers forked from a process that holds the model.

    Parameters
    ----------
    descriptor
        Of the listening socket.
    settings
        How many workers, and how many requests each lets in.
    application
        What answers; it was made before the fork, so that its memory is shared.
    follow
        Called in each worker before it answers, for threads do not survive a fork.
    """

    def __init__(
        self, descriptor: int, settings: ApiSettings, application: Flask, follow: Follow
    ) -> None:
        self._descriptor = descriptor
        self._settings = settings
        self._application = application
        self._follow = follow
        super().__init__()

    def load_config(self) -> None:
        """Set what the command line would."""
        options = {
            "bind": f"fd://{self._descriptor}",
            "worker_class": f"{__name__}.ImpatientWorker",
            "workers": self._settings.workers,
            "threads": self._settings.in_flight + self._settings.passed_on + _THREADS_BESIDE,
            "keepalive": _KEEP_ALIVE_S,
            "timeout": _SILENT_S,
            "graceful_timeout": _GRACE_S,
            "loglevel": "warning",
            "proc_name": "demand-api",
            "preload_app": True,
            "when_ready": lambda _: gc.freeze(),  # collecting would copy shared pages
            "post_fork": lambda _, __: self._follow(),
            "child_exit": lambda _, worker: forget_worker(worker.pid),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Return what answers."""
        return self._application


class _ImpatientSocket(socket.socket):
    """A socket of which no read or write blocks for longer than ``_CLIENT_S``.

    Nor do all reads of a request together for longer than ``_REQUEST_S``.

    Whoever might have to wait gives on the turn before.
    """

    _until = float("inf")

    def setblocking(self, flag: bool) -> None:
        """Block, but not for ever; or not at all."""
        self.settimeout(_CLIENT_S if flag else 0.0)
        self._until = time.monotonic() + _REQUEST_S

    def hurry(self, seconds: float) -> None:
        """Let what is read from now on, all together, take no longer than this."""
        self._until = min(self._until, time.monotonic() + seconds)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read what has come.

        Raises
        ------
        TimeoutError
            Nothing comes, or the whole takes too long.
        """
        if not _has_more(self, 0):
            TURN.give()
            self.settimeout(max(0.001, min(_CLIENT_S, self._until - time.monotonic())))
        return super().recv(size, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of it."""
        TURN.give()
        super().sendall(data, flags)


class ImpatientWorker(ThreadWorker):  # type: ignore[misc]
    """Gunicorn's worker of threads, for which a request that stops coming has an end.

    By itself it lets a client hold a thread for as long as it likes.
    """

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to a thread, with a socket that does not wait for ever."""
        if not isinstance(conn.sock, _ImpatientSocket):
            conn.sock = _ImpatientSocket(fileno=conn.sock.detach())
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """Answer a request, and those that follow it at once on the same connection.

        Back to the main thread and on to another thread is a way of 0.2 ms.
        """
        ready = conn.initialized or conn.data_ready or conn.wait_for_data(_FIRST_S)
        if not ready:
            return super().handle(conn)
        kept = self._in_turn(conn)
        while kept is True and self._may_linger() and _has_more(conn.sock, _LINGER_MS):
            kept = self._in_turn(conn)
        return kept

    def _in_turn(self, conn: Any) -> Any:
        TURN.take()
        try:
            return super().handle(conn)
        finally:
            TURN.give()

    def _may_linger(self) -> bool:
        """Say whether there are threads enough for those that may come meanwhile."""
        return bool(self.alive and self.nr_conns <= self.cfg.threads // 2)


def _has_more(connection: socket.socket, patience_ms: int) -> bool:
    """Say whether something can be read within some milliseconds."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(patience_ms))
