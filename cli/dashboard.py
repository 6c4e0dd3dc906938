"""ZenML's dashboard and MLflow's UI, side by side on loopback; no run needs either.

``zenml login --local`` would point the user's ZenML at its server, so that runs fail once
that server is gone. Here ZenML's server opens the very store that runs write to, beside
them. ``ZENML_SERVER`` in its environment keeps it from writing the user's configuration.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import psutil
import yaml

from cli.terminal import zenml_config
from demand.errors import ServingError, StateError
from demand.serving.client import fetch
from demand.serving.http.server import LOOPBACK, free_port, reserved
from demand.serving.processes import end_of_log, start_detached
from demand.workspace.workspace import current_workspace, exclusive

ZENML, MLFLOW = "ZenML's dashboard", "MLflow's UI"
# In the environment of the servers, and so of all that they start: whose they are.
OWNER, SUPERVISOR = "DEMAND_DASHBOARD_HOME", "DEMAND_DASHBOARD_PID"
ADDRESS = "DEMAND_DASHBOARD_ADDRESS"
# A browser that keeps a connection open must not hold up Ctrl-C.
_UVICORN = ("--no-server-header", "--timeout-graceful-shutdown", "2")
_STOP_S = 30.0


@dataclass(frozen=True)
class Server:
    """A command that serves until it is ended, its environment on top of ours.

    The log gets all output, in place of what an earlier start wrote. ``health`` is a URL that
    answers with a status below 400 once the server is healthy, if there is one.
    """

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    log: Path
    health: str | None = None

    def is_healthy(self) -> bool:
        """Ask its health check."""
        with suppress(ServingError):
            return self.health is None or fetch("GET", self.health, timeout_s=2.0).status < 400
        return False

    def error(self, what: str) -> ServingError:
        """Return the error that it did ``what``, with the end of its log."""
        return ServingError(f"{self.name} {what}; {end_of_log(self.log)}")


def serve_together(
    servers: Sequence[Server], ready: Callable[[], object], start_s: float = 180.0
) -> None:
    """Start servers, call ``ready`` once all are healthy, end them at Ctrl-C or SIGTERM.

    If one of them ended, or is not healthy after ``start_s`` seconds, the others are ended,
    too: :class:`ServingError`.
    """
    processes: dict[int, subprocess.Popen[bytes]] = {}
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())

    def stopped_within(seconds: float) -> bool:
        for server, process in zip(servers, processes.values(), strict=True):
            if (status := process.poll()) is not None:
                by_signal = f"was ended by {signal.Signals(-status).name}" if status < 0 else ""
                raise server.error(by_signal or f"ended: {status}")
        return stopped.wait(seconds)

    try:
        for each in servers:  # in sessions of their own, so that Ctrl-C reaches only us
            process = start_detached(each.name, each.command, each.log, each.environment)
            processes[process.pid] = process
        deadline = time.monotonic() + start_s
        for server in servers:
            while not server.is_healthy():
                if stopped_within(0.2):
                    return
                if time.monotonic() > deadline:
                    raise server.error(f"did not answer at {server.health} within {start_s:g} s")
        # Somebody else's server may have taken the port in the meantime.
        if not stopped_within(0):
            ready()
        while not stopped_within(0.5):
            pass
    finally:
        end_processes(lambda: _in_sessions(processes))


def _in_sessions(leaders: Collection[int]) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(OSError):
            if os.getsid(process.pid) in leaders:
                yield process


def end_processes(find: Callable[[], Iterable[psutil.Process]], grace_s: float = 10.0) -> None:
    """Ask the processes that ``find`` returns to end, and kill those that it still does later."""
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        found = list(find())
        for process in found:
            with suppress(psutil.Error):
                ask(process)
        psutil.wait_procs(found, timeout=grace_s)


def run_dashboard(zenml_port: int = 8237, mlflow_port: int = 5000) -> int:
    """Bring up both pages, print their addresses, and stay until Ctrl-C or SIGTERM; return 0.

    A taken port is replaced by the next free one. If the pages of this installation
    are up already, their addresses are printed and nothing is started. If one of them did not
    start, or ended while it was watched, the other is ended, too: :class:`ServingError`, which
    quotes the end of its log.
    """
    lock = current_workspace().locks / "dashboard.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(lock, "dashboard"))
        except StateError:
            if not (servers := _ours()):
                raise
            told = dict.fromkeys(environment[ADDRESS] for environment in servers.values())
            print(*told, "They are up already; `demand stop` ends them.", sep="\n")
        else:
            end_processes(_ours)  # left by a supervisor that was killed
            _serve(zenml_port, mlflow_port)
    return 0


def stop_dashboards() -> bool:
    """End this installation's pages, watched or left by a supervisor; say whether any ran."""
    servers = _ours()
    for process, environment in servers.items():
        with suppress(psutil.Error):
            parent = process.parent()
            # Of a server whose supervisor was killed, another process has become the parent.
            if parent is not None and str(parent.pid) == environment[SUPERVISOR]:
                parent.terminate()
                psutil.wait_procs(servers, timeout=_STOP_S)
    end_processes(_ours)
    return bool(servers)


def _serve(zenml_port: int, mlflow_port: int) -> None:
    remote = connected_zenml_server()
    servers = []
    with ExitStack() as taken:
        if not remote:
            port = taken.enter_context(reserved(LOOPBACK, _free_port(zenml_port, "ZenML")))
            servers.append(zenml_server(port))
        servers.append(mlflow_server(_free_port(mlflow_port, "MLflow")))
    told = [f"{ZENML} (your ZenML server)  {remote}"] if remote else []
    told += [server.environment[ADDRESS] for server in servers]

    def ready() -> None:
        if not remote:
            skip_onboarding(told[0].split()[-1])
        print(*told, "No login. Ctrl-C stops them; no run depends on them.", sep="\n", flush=True)

    serve_together(servers, ready)


def _free_port(wanted: int, name: str) -> int:
    port = free_port(wanted, way_out="name another with --zenml-port or --mlflow-port")
    if port != wanted:
        print(f"Port {wanted} is taken: {name} gets {port}.")
    return port


def _ours() -> dict[psutil.Process, dict[str, str]]:
    """Return the processes of this installation's servers, and the environment of each."""
    home = str(current_workspace().root)
    running = ((each, each.info["environ"] or {}) for each in psutil.process_iter(["environ"]))
    return {process: environ for process, environ in running if environ.get(OWNER) == home}


def _server(
    name: str, module: Sequence[str], port: int, log: str, environment: Mapping[str, str]
) -> Server:
    address = f"http://{LOOPBACK}:{port}"
    marks = {OWNER: str(current_workspace().root), SUPERVISOR: str(os.getpid())}
    return Server(
        name,
        (sys.executable, "-m", *module, "--host", LOOPBACK, "--port", str(port)),
        {**environment, **marks, ADDRESS: f"{name:<17}  {address}"},
        current_workspace().logs / log,
        f"{address}/health",
    )


def zenml_server(port: int) -> Server:
    """ZenML's own server over the store that this environment's runs use.

    The variables are those of ``zenml login --local``, except that the user's own
    configuration folder stays: so the server finds the same store and artifacts.
    """
    settings = {
        "ALLOW_LOCAL_FILE_ACCESS": "true",
        "AUTH_SCHEME": "NO_AUTH",
        "AUTO_ACTIVATE": "true",
        "CORS_ALLOW_ORIGINS": f"http://{LOOPBACK}:{port}",
        "DEPLOYMENT_TYPE": "local",
        "DISPLAY_ANNOUNCEMENTS": "false",
        "DISPLAY_UPDATES": "false",
    }
    environment = {f"ZENML_SERVER_{name}": value for name, value in settings.items()}
    environment |= {"ZENML_SERVER": "true", "ZENML_ANALYTICS_OPT_IN": "false"}
    module = ("uvicorn", "zenml.zen_server.zen_server_api:app", *_UVICORN)
    return _server(ZENML, module, port, "dashboard-zenml.log", environment)


def mlflow_server(port: int) -> Server:
    """MLflow's UI over this installation's tracking store, registry and artifacts."""
    names = [f"{host}:{port}" for host in (LOOPBACK, "localhost")]
    options = {
        "--backend-store-uri": f"sqlite:///{current_workspace().mlflow_database}",
        "--default-artifact-root": current_workspace().mlflow_artifacts.as_uri(),
        "--allowed-hosts": ",".join(names),
        "--cors-allowed-origins": ",".join(f"http://{name}" for name in names),
        "--workers": "1",
        "--uvicorn-opts": " ".join(_UVICORN),
    }
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # Its job runner is for evaluations by language models.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    module = ("mlflow", "server", "--no-serve-artifacts", *chain.from_iterable(options.items()))
    return _server(MLFLOW, module, port, "dashboard-mlflow.log", environment)


def connected_zenml_server() -> str | None:
    """Return the address of the ZenML server that the user's ZenML is connected to.

    Read from the environment and ZenML's configuration file, as ZenML does;
    None for a store in a database of its own, the default.
    """
    url = os.environ.get("ZENML_STORE_URL")
    if not url:
        with suppress(OSError, yaml.YAMLError, LookupError, TypeError):
            url = yaml.safe_load(zenml_config().read_text(encoding="utf-8"))["store"]["url"]
    return url if isinstance(url, str) and url.startswith(("http://", "https://")) else None


def skip_onboarding(address: str) -> None:
    """Spare the user the form for name and mail address that hides a new dashboard.

    Says "no" to ZenML's newsletter in the user's name, unless it was answered before.
    A server that refuses only shows its form.
    """
    url = f"{address}/api/v1/current-user"
    answer = {"email_opted_in": False, "user_metadata": {"finished_onboarding_survey": True}}
    with suppress(ServingError, ValueError, LookupError, TypeError):
        user = json.loads(fetch("GET", url, timeout_s=10.0).content)
        if user["body"]["email_opted_in"] is None:
            headers = {"Content-Type": "application/json"}
            fetch("PUT", url, json.dumps(answer).encode(), headers=headers, timeout_s=10.0)
