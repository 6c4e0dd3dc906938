"""A web server of somebody else's, run as our child on loopback: started, watched, ended."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from demand.errors import ServingError, StateError

LOOPBACK = "127.0.0.1"
PORTS_TRIED = 50
LOG_LINES_SHOWN = 12


def free_port(wanted: int) -> int:
    """Return ``wanted``, or the next port after it that nothing listens on.

    Raises
    ------
    ServingError
        None of the next ports is free.
    """
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port
    raise ServingError(
        f"no free port from {wanted} to {wanted + PORTS_TRIED - 1}: name another with --zenml-port "
        "or --mlflow-port"
    )


def answers(port: int, path: str, timeout_s: float = 2.0) -> bool:
    """Say whether ``GET path`` on loopback gets a status below 400."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass
class LocalServer:
    """One child process that answers HTTP on loopback.

    Parameters
    ----------
    name
        What people call it, for messages.
    module
        Arguments after ``python``: ``("-m", "uvicorn", ...)``, without the address.
    environment
        Variables set on top of ours; the folder of our Python leads its ``PATH``.
    port
        A free port, see :func:`free_port`.
    health_path
        Answers with a status below 400 once the server is ready.
    log
        Its standard output and error; what an earlier start wrote is replaced.
    """

    name: str
    module: tuple[str, ...]
    environment: Mapping[str, str]
    port: int
    health_path: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches only us.

        Raises
        ------
        StateError
            The log cannot be written.
        """
        scripts = str(Path(sys.executable).parent)
        environment = {
            **os.environ,
            **self.environment,
            "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, *self.module, "--host", LOOPBACK, "--port", str(self.port)]
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=self.log.parent,
                    start_new_session=True,
                )
        except OSError as error:
            raise StateError(f"cannot start {self.name}, log {self.log}: {error}") from error

    def wait_until_ready(self, timeout_s: float, interrupted: Callable[[float], bool]) -> bool:
        """Wait until it answers.

        Parameters
        ----------
        timeout_s
            Seconds after which a silent server is an error.
        interrupted
            Waits for the seconds given and says whether to give up early.

        Returns
        -------
        bool
            True when it answers, False when ``interrupted`` said so.

        Raises
        ------
        ServingError
            It ended, or did not answer in time; quotes the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not answers(self.port, self.health_path):
            self.raise_if_ended()
            if time.monotonic() > deadline:
                raise ServingError(
                    f"{self.name} did not answer at {self.address} within {timeout_s:g} s; "
                    f"{self._end_of_log()}"
                )
            if interrupted(0.2):
                return False
        # Somebody else's server may have taken the port in the meantime.
        self.raise_if_ended()
        return True

    def raise_if_ended(self) -> None:
        """Raise :class:`ServingError` with the end of its log if the process has ended."""
        status = None if self.process is None else self.process.poll()
        if status is None:
            return
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended: {status}"
        raise ServingError(f"{self.name} {how}; {self._end_of_log()}")

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the process and its children: asked first, forced after ``timeout_s``."""
        if self.process is None:
            return
        stop_group(self.process.pid)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            stop_group(self.process.pid, force=True)
            self.process.wait()

    def _end_of_log(self) -> str:
        try:
            with self.log.open(encoding="utf-8", errors="replace") as log:
                lines = [line.rstrip() for line in deque(log, maxlen=LOG_LINES_SHOWN)]
        except OSError:
            lines = []
        quoted = "".join(f"\n  {line}" for line in lines) or " nothing"
        return f"its log {self.log} ends with{':' if lines else ''}{quoted}"


def stop_group(leader: int, *, force: bool = False) -> None:
    """Signal the process group that ``leader`` leads; a group that is gone is fine."""
    try:
        os.killpg(leader, signal.SIGKILL if force else signal.SIGTERM)
    except ProcessLookupError:
        return
