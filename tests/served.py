"""Servers as processes of their own, with limits that no command lets a user choose.

``python -m tests.served KIND OPTIONS`` serves until a signal; OPTIONS are JSON.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import requests

from demand.workspace.workspace import PROJECT_ROOT

_READY = "answers at {url}"
STARTS_S = 60


class Served:
    """A running server.

    Parameters
    ----------
    command
        What starts it; it tells the root of its URLs on standard error.
    log
        Takes its output.
    environment
        Variables besides those of this process.
    """

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self.log_path = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=PROJECT_ROOT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self.url = self._announced()
        self.port = int(self.url.rpartition(":")[2])

    def _announced(self) -> str:
        deadline = time.monotonic() + STARTS_S
        while True:
            assert self.process.poll() is None, self.log
            if found := re.search(r"answers at (http://\S+:\d+)\n", self.log):
                return found[1]
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def connect(self, timeout: float = 20) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def send(self, *parts: bytes) -> bytes:
        """Send what may be no request, and return all that comes until the server closes."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return everything(connection)

    def get(self, path: str, **more: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=more.pop("timeout", 20), **more)

    def post(self, path: str, **more: Any) -> requests.Response:
        return requests.post(self.url + path, timeout=more.pop("timeout", 20), **more)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def everything(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    try:
        while part := connection.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@cache
def _model() -> tempfile.TemporaryDirectory[str]:
    from tests.tiny_model import tiny_predictor

    place = tempfile.TemporaryDirectory(prefix="tiny-model-")
    tiny_predictor().save(Path(place.name) / "model")
    return place


def tiny_model() -> Path:
    """Return the folder of a tiny trained model."""
    return Path(_model().name) / "model"


@contextmanager
def running(server: Served) -> Iterator[Served]:
    """Kill what is left of a server after the block."""
    try:
        yield server
    finally:
        tree = []
        if server.process.poll() is None:
            tree = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        server.process.wait()
        for each in tree:
            if each.is_running():
                each.kill()


def command(kind: str, **options: Any) -> list[str]:
    return [sys.executable, "-m", "tests.served", kind, json.dumps(options)]


@contextmanager
def api(log: Path, *, environment: dict[str, str] | None = None, **options: Any) -> Any:
    """Run the API with a tiny model; options are those of ``ApiSettings``, and a few more."""
    options.setdefault("model", str(tiny_model()))
    with running(Served(command("api", **options), log, **(environment or {}))) as server:
        yield server


@contextmanager
def model_server(log: Path, folder: Path, **options: Any) -> Any:
    """Run a model server; options are those of ``Limits``, and a few more."""
    started = Served(command("model_server", folder=str(folder), **options), log)
    with running(started) as server:
        yield server


def _api(
    model: str, host: str = "127.0.0.1", port: int = 0, model_server: str = "", **options: Any
) -> None:
    from demand.serving.api.server import ApiSettings, serve_api
    from demand.serving.http.middleware import Timeouts

    options = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
    settings = ApiSettings(
        **{"access_log": False, **options, "timeouts": Timeouts(**options.get("timeouts", {}))}
    )
    upstream = model_server or "http://127.0.0.1:9"
    serve_api(host, port, settings, model=(Path(model), "7"), model_server=upstream)


def _model_server(
    folder: str, host: str = "127.0.0.1", workers: int = 1, named: Any = (), **limits: Any
) -> None:
    from demand.serving.http.middleware import Hosts
    from demand.serving.http.server import serve
    from demand.serving.model_server import Limits, bounded, load_application

    chosen = Limits(**limits)
    application = load_application(Path(folder), "7", chosen)
    hosts = Hosts(host, tuple(named))
    serve(lambda: bounded(application, hosts, chosen), host, 0, workers=workers, announce=_READY)


def _much(unread_s: float) -> None:
    """Answer every request with 64 MB."""
    from demand.serving.http.middleware import Hosts, RequestLimits, Timeouts
    from demand.serving.http.server import serve
    from demand.serving.model_server import error_answer

    async def app(_: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(2**26)})

    limits = RequestLimits(
        app, Hosts("127.0.0.1"), lambda _: 0, error_answer, 0, Timeouts(unread_s=unread_s)
    )
    serve(lambda: limits, "127.0.0.1", 0, announce=_READY)


def main(kind: str, options: str) -> None:
    from demand.errors import DemandError

    try:
        {"api": _api, "model_server": _model_server, "much": _much}[kind](**json.loads(options))
    except DemandError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
