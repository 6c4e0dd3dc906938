"""Brings up Airflow with the retraining DAG on loopback: ``make airflow``.

``airflow standalone`` would open two log servers on all interfaces; this starts the
same parts without them, and ends them all, with the training they run, when it ends.

Environment: ``AIRFLOW_PORT`` (8080), ``AIRFLOW_HOME`` (``.demand/airflow`` in the
project); any ``AIRFLOW__SECTION__KEY`` set outside wins over the ones here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
READY_WITHIN_S = 180.0
END_WITHIN_S = 10.0
PARTS = {"scheduler": ["--skip-serve-logs"], "dag-processor": [], "api-server": []}
PASSWORDS = "simple_auth_manager_passwords.json.generated"


def airflow_environment(home: Path, port: int) -> dict[str, str]:
    """Return the environment of Airflow's parts: all on loopback, nothing sent home."""
    own = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).resolve().parent / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / PASSWORDS),
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    merged = own | dict(os.environ)
    merged["AIRFLOW_HOME"] = str(home)
    merged["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{merged.get('PATH', os.defpath)}"
    unproxied = [HOST, "localhost"]
    for name in ("no_proxy", "NO_PROXY"):
        merged[name] = ",".join(filter(None, [merged.get(name), *unproxied]))
    return merged


def is_ready(port: int) -> bool:
    """Ask Airflow's API whether database, scheduler and DAG processor are healthy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{HOST}:{port}/api/v2/monitor/health", timeout=5) as answer:
            health = json.load(answer)
    except (OSError, ValueError):
        return False
    parts = ("metadatabase", "scheduler", "dag_processor")
    return all((health.get(part) or {}).get("status") == "healthy" for part in parts)


def wait_until_ready(parts: dict[str, subprocess.Popen[bytes]], port: int) -> None:
    """Wait until Airflow answers; leave with a message if a part ends or it takes too long."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not is_ready(port):
        leave_if_one_ended(parts)
        if time.monotonic() > deadline:
            sys.exit(f"Airflow was not ready within {READY_WITHIN_S:.0f} s: read its logs")
        time.sleep(0.5)


def leave_if_one_ended(parts: dict[str, subprocess.Popen[bytes]]) -> None:
    """Leave with a message that names the part that ended by itself."""
    for name, process in parts.items():
        if process.poll() is not None:
            sys.exit(f"Airflow's {name} ended with status {process.returncode}: read its log")


def end_all() -> None:
    """End Airflow's parts and the tasks they run; leave processes of other sessions alone.

    A task ends its training itself when it is asked to end; a model server has a
    session of its own and goes on serving.
    """
    ours = [
        process
        for process in psutil.Process().children(recursive=True)
        if session_of(process) == os.getsid(0)
    ]
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                ask(process)
        _, ours = psutil.wait_procs(ours, timeout=END_WITHIN_S)


def session_of(process: psutil.Process) -> int | None:
    """Return a process's session; None if it has ended."""
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return None


def start_parts(logs: Path, environment: dict[str, str]) -> dict[str, subprocess.Popen[bytes]]:
    """Prepare the database and start Airflow's parts, each with a log of its own."""
    with (logs / "database.log").open("ab") as log:
        migrated = subprocess.run(
            ["airflow", "db", "migrate"], env=environment, stdout=log, stderr=log
        )
    if migrated.returncode:
        sys.exit(f"Airflow's database: exit status {migrated.returncode}, see {log.name}")
    parts = {}
    for name, arguments in PARTS.items():
        with (logs / f"{name}.log").open("ab") as log:
            parts[name] = subprocess.Popen(
                ["airflow", name, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
    return parts


def leave_if_taken(port: int) -> None:
    """Leave with a message if another program has the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            sys.exit(f"port {port} is taken ({error.strerror}): set AIRFLOW_PORT to another one")


def main() -> None:
    """Start Airflow, say where it answers, wait, end it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    port = int(os.environ.get("AIRFLOW_PORT", "8080"))
    home = Path(os.environ.get("AIRFLOW_HOME") or PROJECT / ".demand" / "airflow").resolve()
    leave_if_taken(port)
    logs = home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # the password lies in it
    try:
        parts = start_parts(logs, airflow_environment(home, port))
        wait_until_ready(parts, port)
        password = json.loads((home / PASSWORDS).read_text(encoding="utf-8"))["admin"]
        print(
            f"Airflow: http://{HOST}:{port}  user admin, password {password}\n"
            f"The DAG `retraining` is paused until you switch it on there. Logs: {logs}\n"
            "Ctrl-C ends it.",
            flush=True,
        )
        while True:
            leave_if_one_ended(parts)
            time.sleep(1)
    except KeyboardInterrupt:
        print("Airflow ends", flush=True)
    finally:
        end_all()


if __name__ == "__main__":
    main()
