"""ZenML's dashboard and MLflow's UI, side by side on loopback.

Neither is needed by any run: both only read what runs write. What they are is said in
:mod:`demand.dashboard.servers`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from demand.dashboard.local_server import LocalServer, free_port, stop_group
from demand.dashboard.servers import (
    ZENML,
    connected_zenml_server,
    mlflow_server,
    skip_onboarding,
    zenml_server,
)
from demand.errors import StateError
from demand.state import exclusive, home, read_json, write_json

if TYPE_CHECKING:
    import psutil

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0


def run_dashboard(zenml_port: int = 8237, mlflow_port: int = 5000) -> int:
    """Bring up both pages, print their addresses, and stay until Ctrl-C or SIGTERM.

    A taken port is replaced by the next free one. If the pages of this installation
    are up already, their addresses are printed and nothing is started.

    Parameters
    ----------
    zenml_port, mlflow_port
        Ports to try first.

    Returns
    -------
    int
        Exit status 0.

    Raises
    ------
    ServingError
        One of them did not start, or ended while it was watched; the other is
        stopped too. Quotes the end of its log.
    StateError
        The state folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(home().locks / "dashboard.lock", "dashboard"))
        except StateError:
            addresses = _recorded_addresses()
            if not addresses:
                raise
            _announce(addresses, "They are up already; `demand stop` ends them.")
            return 0
        _stop_recorded()
        stopped = stack.enter_context(_stop_signals())
        return _serve(_servers(zenml_port, mlflow_port), stopped)


def stop_dashboards() -> bool:
    """End the pages of this installation, also those whose ``demand dashboard`` was killed.

    Returns
    -------
    bool
        Whether anything was running.
    """
    import psutil

    identity = _record().get("supervisor")
    watched = _is_same(identity)
    if identity is not None and watched:
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            supervisor = psutil.Process(identity["pid"])
            supervisor.terminate()
            supervisor.wait(STOP_TIMEOUT_S)
    return _stop_recorded() or watched


def _servers(zenml_port: int, mlflow_port: int) -> list[LocalServer]:
    servers = [] if connected_zenml_server() else [zenml_server(_free_port(zenml_port, "ZenML"))]
    return [*servers, mlflow_server(_free_port(mlflow_port, "MLflow"))]


def _free_port(wanted: int, name: str) -> int:
    port = free_port(wanted)
    if port != wanted:
        print(f"Port {wanted} is taken: {name} gets {port}.")
    return port


def _serve(servers: list[LocalServer], stopped: threading.Event) -> int:
    """Start all, print where they are, and watch them until ``stopped``."""
    try:
        for server in servers:
            server.start()
        _write_record(servers)
        if not all(server.wait_until_ready(START_TIMEOUT_S, stopped.wait) for server in servers):
            return 0
        addresses = {server.name: server.address for server in servers}
        if remote := connected_zenml_server():
            addresses = {f"{ZENML} (your ZenML server)": remote, **addresses}
        else:
            skip_onboarding(addresses[ZENML])
        _announce(addresses, "No login. Ctrl-C stops them; no run depends on them.")
        while not stopped.wait(0.5):
            for server in servers:
                server.raise_if_ended()
        return 0
    finally:
        for server in servers:
            server.stop()
        _record_path().unlink(missing_ok=True)


def _announce(addresses: dict[str, str], closing: str) -> None:
    width = max(len(name) for name in addresses)
    for name, address in addresses.items():
        print(f"{name:<{width}}  {address}")
    print(closing, flush=True)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, instead of ending us on the spot."""
    stopped = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _record_path() -> Path:
    return home().root / "dashboard.json"


def _record() -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", read_json(_record_path()))
    except StateError:
        return {}


def _write_record(servers: list[LocalServer]) -> None:
    """Write who runs, so that another process can end what a killed one left behind."""
    write_json(
        _record_path(),
        {
            "supervisor": _identity(os.getpid()),
            "servers": [
                {"name": server.name, "address": server.address, **_identity(server.process.pid)}
                for server in servers
                if server.process is not None
            ],
        },
    )


def _identity(pid: int) -> dict[str, float]:
    """Process id and start time: the id alone may be another's after a reboot."""
    import psutil

    return {"pid": pid, "started": psutil.Process(pid).create_time()}


def _is_same(identity: dict[str, Any] | None) -> bool:
    import psutil

    if identity is None:
        return False
    try:
        return bool(psutil.Process(identity["pid"]).create_time() == identity["started"])
    except psutil.NoSuchProcess:
        return False


def _recorded_addresses() -> dict[str, str]:
    return {server["name"]: server["address"] for server in _record().get("servers", [])}


def _stop_recorded() -> bool:
    """End servers that the record names and that still run; say whether there were any."""
    import psutil

    groups = {server["pid"]: _members(server) for server in _record().get("servers", [])}
    for leader, members in groups.items():
        if members:
            stop_group(leader)
    everyone = [process for members in groups.values() for process in members]
    for process in psutil.wait_procs(everyone, timeout=STOP_TIMEOUT_S / 2)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _record_path().unlink(missing_ok=True)
    return bool(everyone)


def _members(server: dict[str, Any]) -> list[psutil.Process]:
    """Return what runs of a server: children outlive a leader that was killed."""
    import psutil

    leader, started = server["pid"], server["started"]
    another = psutil.pid_exists(leader) and not _is_same(server)
    if another or started < psutil.boot_time():
        return []
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader:
                members.append(process)
    return members
