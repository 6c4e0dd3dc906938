"""Model servers as processes of their own: started detached, known by their record, stopped.

The process on record is a master, which starts the workers that answer, and starts one
again if it dies: see :mod:`demand.serving.http.server`.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import Field
from pydantic.dataclasses import dataclass

from demand.errors import ServingError, StateError
from demand.serving.client import fetch
from demand.serving.http.middleware import VERSION_HEADER
from demand.serving.http.server import root_url
from demand.workspace.workspace import PROJECT_ROOT, current_workspace

_MODEL_SERVER = "demand.serving.model_server"
_LOG_LINES_SHOWN = 15
_POLL_S = 0.1
_ANSWER_S = 2.0
_HEADER = "=== model server of version "
# Longer than the server itself takes to finish its requests.
_STOP_TIMEOUT_S = 15.0
# Start times come from the clock of the system, which may be corrected meanwhile.
_CLOCK_CORRECTION_S = 2.0
# A model server answers some seconds after its start, on a busy machine perhaps later. One
# that is older and silent hangs, which its master does not see.
_START_S = 60.0


@dataclass(frozen=True, config={"extra": "forbid", "strict": True})
class ServerProcess:
    """A running model server, or one that was: where it listens, its model, its output.

    The process id of its master and that one's start, in seconds since 1970, are together
    those of no other process, even after a reboot.
    """

    pid: Annotated[int, Field(ge=1)]
    created: float
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    version: str
    log: str

    @property
    def address(self) -> str:
        """Root of its URLs; a server on all interfaces is reached over loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return root_url(host, self.port)

    def process(self) -> psutil.Process | None:
        """Return the master while it runs, else None."""
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
        with suppress(ServingError):
            answer = fetch("GET", f"{self.address}/ping", timeout_s=timeout_s)
            return answer.status == 200 and answer.headers.get(VERSION_HEADER) == self.version
        return False

    def is_restarting(self) -> bool:
        """Say whether it will answer by itself, though it does not now.

        That is when its master runs, and the workers that it keeps running have ended or
        were just started.
        """
        if (master := self.process()) is None:
            return False
        try:
            workers = [c for c in master.children() if c.status() != psutil.STATUS_ZOMBIE]
            return all(time.time() - worker.create_time() < _START_S for worker in workers)
        except psutil.NoSuchProcess:  # one of them has just ended
            return self.process() is not None

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until it answers; ServingError, with the end of its log: it ended, or was silent."""
        deadline, problem = time.monotonic() + timeout_s, ""
        while not self.answers(min(_ANSWER_S, max(_POLL_S, deadline - time.monotonic()))):
            if self.process() is None:
                problem = "ended at its start"
            elif time.monotonic() > deadline:
                problem = f"did not answer at {self.address} within {timeout_s:g} s"
            if problem:
                raise ServingError(f"the model server {problem}; {end_of_log(self.log)}")
            time.sleep(_POLL_S)

    def stop(self) -> bool:
        """Let it finish its requests and end, force it if it does not; say whether it ran."""
        process = self.process()
        if process is not None:
            end(process)
        return process is not None


def end_of_log(log: Path | str) -> str:
    """Quote the last lines of a log, of a model server's only those since its start."""
    text = ""
    with suppress(OSError):
        text = Path(log).read_text(encoding="utf-8", errors="replace")
    own = re.split(rf"^{_HEADER}.*\n?", text, flags=re.MULTILINE)[-1].splitlines()
    if not own:
        return f"its log {log} is empty"
    return "\n  ".join([f"its log {log} ends with:", *own[-_LOG_LINES_SHOWN:]])


def end(process: psutil.Process) -> None:
    """Let a model server finish its requests and end; force it if it does not.

    The process is its master, or a worker whose master is gone. A master ends after its workers;
    if it has to be forced, they are ended after it.
    """
    with suppress(psutil.NoSuchProcess):
        for each in (process, *process.children()):
            with suppress(psutil.NoSuchProcess):
                each.terminate()
                if not _ended_in_time(each):
                    each.kill()
                    _ended_in_time(each)


def _ended_in_time(process: psutil.Process) -> bool:
    """Wait for the end of a process.

    One that nobody takes note of, as in a container without an init, has ended as well,
    which :meth:`psutil.Process.wait` alone does not see.
    """
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(psutil.TimeoutExpired):
            process.wait(_POLL_S)
            return True
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
    return False


def model_servers(folder: Path) -> set[psutil.Process]:
    """Return the running model servers whose model is below ``folder``, on record or not.

    Of each this is the process to :func:`end`: its master, or a worker whose master is gone.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter(["cmdline", "ppid"]):
        match process.info["cmdline"]:
            case [_, "-m", str(module), model, *_] if module == _MODEL_SERVER:
                if Path(model).resolve().is_relative_to(folder.resolve()):
                    found[process.pid] = process
    # A worker has the command line of the master that it was forked from.
    return {process for process in found.values() if process.info["ppid"] not in found}


def start_server(
    folder: Path, version: str, host: str, port: int, log: Path, allowed_hosts: Sequence[str] = ()
) -> ServerProcess:
    """Start the server of an MLflow model that outlives this process; it is not ready yet.

    It is to answer at a host and port, and may be asked by names besides localhost and addresses.
    The log takes its output; what an earlier server wrote is kept. StateError: it cannot be
    written.
    """
    command = [sys.executable, "-m", _MODEL_SERVER, str(folder), "--model-version", version]
    command += ["--host", host, "--port", str(port)]
    command += [part for name in allowed_hosts for part in ("--allow-host", name)]
    environment = {
        # One thread a request: a pool of threads costs a small network more than it gains.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT_ROOT), os.getenv("PYTHONPATH")))),
        "PYTHONSAFEPATH": "1",
        # It runs in another folder, and predictions go to the log of this installation.
        "DEMAND_HOME": str(current_workspace().root),
    }
    header = f"{_HEADER}{version}, {datetime.datetime.now():%F %T}\n"
    process = start_detached("a model server", command, log, environment, header=header)
    # It is meant to outlive us, so its end is no business of this object's destructor.
    process.returncode = 0
    created = 0.0
    with suppress(psutil.NoSuchProcess):
        created = psutil.Process(process.pid).create_time()
    return ServerProcess(process.pid, created, host, port, version, str(log))


def start_detached(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str],
    *,
    header: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; its output goes to ``log``.

    With a header, that is written behind what the log has; without, the log begins anew.
    The environment is set on top of ours, in which the programs beside our Python come first.
    StateError: the log cannot be written.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb" if header is None else "ab") as output:
            output.write((header or "").encode())
            output.flush()
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **environment},
                cwd=log.parent,
                start_new_session=True,
            )
    except OSError as error:
        raise StateError(f"cannot start {name}, log {log}: {error}") from error
