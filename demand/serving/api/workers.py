"""Gunicorn's processes, each with an event loop of uvicorn's."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, ClassVar

from gunicorn.app.base import BaseApplication
from uvicorn_worker import UvicornWorker

from demand.serving.api.accepting import Server
from demand.serving.api.connections import ImpatientProtocol
from demand.serving.api.front import Front
from demand.serving.api.settings import ApiSettings
from demand.serving.api.telemetry import forget_worker
from demand.serving.listening import listen_beside

Follow = Callable[[], None]

_KEEP_ALIVE_S = 75
_GRACE_S = 15
_SILENT_S = 60
_SWITCH_S = 0.0005


class EventLoopWorker(UvicornWorker):  # type: ignore[misc]
    """uvicorn in a process of gunicorn's, with nothing that this API has no use for."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": ImpatientProtocol,
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "proxy_headers": False,
        "server_header": False,
        # Before gunicorn's own ends, which would kill without a word.
        "timeout_graceful_shutdown": _GRACE_S - 2,
        "timeout_notify": 1,
    }

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        self._install_sigquit_handler()
        await Server(self.config).serve(sockets=self.sockets)

    async def callback_notify(self) -> None:
        """Say that this process lives, and end it where its master does not."""
        await super().callback_notify()
        if os.getppid() != self.ppid:
            signal.raise_signal(signal.SIGTERM)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End at once, as gunicorn asks for: uvicorn does so at a second SIGINT."""
        super().handle_exit(sig, frame)
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    def init_process(self) -> None:
        """Begin to answer, on a socket of its own, too.

        Whoever wakes first takes all connections that wait at the one that is shared, which
        may be all there are. With others at the same port the kernel deals them out; but
        only Linux does.
        """
        if sys.platform == "linux":
            self.sockets: list[Any] = [*self.sockets, *map(listen_beside, self.sockets)]
        # By itself a thread with a batch gives the interpreter on after 5 ms, at every step of
        # a request that takes half of one.
        sys.setswitchinterval(_SWITCH_S)
        super().init_process()


class Gunicorn(BaseApplication):  # type: ignore[misc]
    """Gunicorn without its command line: workers forked from a process that holds the model.

    Parameters
    ----------
    descriptor
        Of the listening socket.
    settings
        How many workers.
    front
        What answers; it was made before the fork, so that its memory is shared.
    follow
        Called in each worker before it answers, for threads do not survive a fork.
    """

    def __init__(
        self, descriptor: int, settings: ApiSettings, front: Front, follow: Follow
    ) -> None:
        self._descriptor = descriptor
        self._settings = settings
        self._front = front
        self._follow = follow
        super().__init__()

    def load_config(self) -> None:
        """Set what the command line would."""
        options = {
            "bind": f"fd://{self._descriptor}",
            "worker_class": EventLoopWorker,
            "workers": self._settings.workers,
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

    def load(self) -> Front:
        """Return what answers."""
        return self._front
