"""A model server as a process of its own: started detached, known by its record, stopped.

The process on record is its supervisor, which starts the one that answers, and starts it
again if that dies: see :mod:`demand.serving.supervisor`.
"""

from __future__ import annotations

import datetime
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import psutil

import demand
from demand.errors import ServingError, StateError
from demand.serving.model_server import VERSION_HEADER

_SUPERVISOR, _MODEL_SERVER = "demand.serving.supervisor", "demand.serving.model_server"
_LOG_LINES_SHOWN = 15
_POLL_S = 0.1
_ANSWER_S = 2.0
_HEADER = "=== model server of version "
# Longer than the server itself takes to finish its requests.
_STOP_TIMEOUT_S = 15.0
# Start times come from the clock of the system, which may be corrected meanwhile.
_CLOCK_CORRECTION_S = 2.0


@dataclass(frozen=True)
class ServerProcess:
    """A running model server, or one that was.

    Parameters
    ----------
    pid, created
        Process id of the supervisor, and its start in seconds since 1970: together they
        are no other process, even after a reboot.
    host, port
        Where it listens.
    version
        Of the registered model.
    log
        Its standard output and error.
    """

    pid: int
    created: float
    host: str
    port: int
    version: str
    log: str

    @classmethod
    def from_record(cls, record: object) -> ServerProcess:
        """Return the process that ``dataclasses.asdict`` made a record of.

        Raises
        ------
        ValueError
            The record is none, or not a whole one.
        """
        kinds = get_type_hints(cls)
        if not isinstance(record, dict) or record.keys() != kinds.keys():
            raise ValueError(f"{record!r:.200} has other fields than a model server")
        if any(type(record[name]) is not kind for name, kind in kinds.items()):
            raise ValueError(f"{record!r:.200} has fields of other types than a model server")
        if record["pid"] <= 0 or not 0 < record["port"] < 65536:
            raise ValueError(f"{record!r:.200} has an impossible process id or port")
        return cls(**record)

    @property
    def address(self) -> str:
        """Root of its URLs; a server on all interfaces is reached over loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def process(self) -> psutil.Process | None:
        """Return the supervisor while it runs, else None."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < _CLOCK_CORRECTION_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def answers(self, timeout_s: float = _ANSWER_S) -> bool:
        """Say whether it answers ``/ping`` as the server of its version.

        Another program that took its port after its end does not count.
        """
        try:
            status, headers, _ = self._request("GET", "/ping", None, timeout_s)
        except (OSError, http.client.HTTPException):
            return False
        return status == 200 and headers.get(VERSION_HEADER) == self.version

    def predict(self, ads: Sequence[dict[str, Any]], timeout_s: float = 60.0) -> list[float]:
        """Send ads to ``/invocations`` and return the probabilities.

        Raises
        ------
        ServingError
            It did not answer, or not with a list of numbers.
        """
        body = json.dumps({"dataframe_records": list(ads)}).encode()
        try:
            status, _, answer = self._request("POST", "/invocations", body, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            raise ServingError(f"{self.address} does not answer: {error}") from error
        if status != 200:
            said = answer[:500].decode("utf-8", "replace")
            raise ServingError(f"{self.address} answered {status}: {said}")
        try:
            return [float(value) for value in json.loads(answer)["predictions"]]
        except (ValueError, TypeError, KeyError) as error:
            raise ServingError(f"{self.address} did not answer with predictions") from error

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until it answers.

        Raises
        ------
        ServingError
            It ended, or was silent for ``timeout_s``; quotes the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        # It listens from its start, so a question waits as long as the model takes to load.
        while not self.answers(min(_ANSWER_S, max(_POLL_S, deadline - time.monotonic()))):
            if self.process() is None:
                raise ServingError(f"the model server ended at its start; {self._end_of_log()}")
            if time.monotonic() > deadline:
                raise ServingError(
                    f"the model server did not answer at {self.address} within {timeout_s:g} s; "
                    f"{self._end_of_log()}"
                )
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Let it finish its requests and end; force it if it does not."""
        process = self.process()
        if process is not None:
            end(process)

    def _request(
        self, method: str, path: str, body: bytes | None, timeout_s: float
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Ask without the proxies that the environment may name."""
        host = self.address.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=timeout_s)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def _end_of_log(self) -> str:
        try:
            with Path(self.log).open(encoding="utf-8", errors="replace") as log:
                own = log.read().rpartition(_HEADER)[2].splitlines()[1:]
        except OSError:
            own = []
        quoted = "".join(f"\n  {line}" for line in own[-_LOG_LINES_SHOWN:])
        return (
            f"its log {self.log} ends with:{quoted}" if quoted else f"its log {self.log} is empty"
        )


def end(process: psutil.Process) -> None:
    """Let a model server finish its requests and end; force it if it does not.

    Parameters
    ----------
    process
        Its supervisor, or itself where it has none any more. A supervisor ends after its
        model server; if it has to be forced, the model server is ended after it.
    """
    with suppress(psutil.NoSuchProcess):
        for each in (process, *process.children()):
            _end_one(each)


def _end_one(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        if not _ended_within(process, _STOP_TIMEOUT_S):
            process.kill()
            _ended_within(process, _STOP_TIMEOUT_S)


def _ended_within(process: psutil.Process, seconds: float) -> bool:
    """Wait for the end of a process, and if it is a child of this one, take note of it.

    One that nobody takes note of, as in a container without an init, has ended as well,
    which :meth:`psutil.Process.wait` alone does not see.
    """
    deadline = time.monotonic() + seconds
    while process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        with suppress(psutil.TimeoutExpired):
            process.wait(_POLL_S)
            return True
    with suppress(psutil.TimeoutExpired):
        process.wait(0)
    return True


def model_servers(folder: Path) -> set[psutil.Process]:
    """Return the running model servers whose model is below ``folder``, on record or not.

    Of each this is the process to :func:`end`: its supervisor, or itself where the
    supervisor is gone.
    """
    supervisors: dict[int, psutil.Process] = {}
    others: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline", "ppid"]):
        command = process.info["cmdline"] or []
        if command[1:2] != ["-m"] or len(command) < 4:
            continue
        if not Path(command[3]).resolve().is_relative_to(folder.resolve()):
            continue
        if command[2] == _SUPERVISOR:
            supervisors[process.pid] = process
        elif command[2] == _MODEL_SERVER:
            others.append(process)
    # Before it has become the model server, what a supervisor starts looks like another one.
    found = (*supervisors.values(), *others)
    return {process for process in found if process.info["ppid"] not in supervisors}


def start_server(folder: Path, version: str, listener: socket.socket, log: Path) -> ServerProcess:
    """Start a supervised model server that outlives this process; it is not ready yet.

    Parameters
    ----------
    folder
        The MLflow model.
    version
        Of the registered model.
    listener
        Where it is to answer; the new process has its own copy of the socket.
    log
        Takes its output; what an earlier server wrote is kept.

    Raises
    ------
    StateError
        The log cannot be written.
    """
    command = [sys.executable, "-m", _SUPERVISOR, str(folder)]
    command += ["--fd", str(listener.fileno()), "--model-version", version]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            output.write(f"{_HEADER}{version}, {datetime.datetime.now():%F %T}\n".encode())
            output.flush()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                cwd=log.parent,
                start_new_session=True,
                pass_fds=[listener.fileno()],
            )
    except OSError as error:
        raise StateError(f"cannot start a model server, log {log}: {error.strerror}") from error
    # It is meant to outlive us, so its end is no business of this object's destructor.
    process.returncode = 0
    try:
        created = psutil.Process(process.pid).create_time()
    except psutil.NoSuchProcess:
        created = 0.0
    host, port = listener.getsockname()[:2]
    return ServerProcess(process.pid, created, host, port, version, str(log))


def _environment() -> dict[str, str]:
    """Return ours, with our interpreter's programs and our package found first."""
    package = str(Path(demand.__file__).resolve().parent.parent)
    return {
        # One thread a request: a pool of threads costs a small network more than it gains.
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "PATH": _first(str(Path(sys.executable).parent), os.environ.get("PATH")),
        "PYTHONPATH": _first(package, os.environ.get("PYTHONPATH")),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
    }


def _first(folder: str, path: str | None) -> str:
    return f"{folder}{os.pathsep}{path}" if path else folder
