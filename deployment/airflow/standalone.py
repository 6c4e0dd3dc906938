"""Airflow with the retraining DAG on loopback, until Ctrl-C: ``make airflow``.

``airflow standalone`` would open two log servers on all interfaces; this starts the
same parts without them, and ends them all, with the training they run, when it ends.

Environment: ``AIRFLOW_PORT`` (8080), ``AIRFLOW_HOME`` (``.demand/airflow`` in the
project); any ``AIRFLOW__SECTION__KEY`` set outside wins over the ones here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from cli.dashboard import Server, serve_together
from cli.terminal import guarded
from demand.errors import ServingError
from demand.serving.http.server import LOOPBACK, free_port

PROJECT = Path(__file__).resolve().parents[2]
PROGRAMS = PROJECT / ".venv-airflow" / "bin"
PASSWORDS = "simple_auth_manager_passwords.json.generated"


def airflow_environment(home: Path, port: int) -> dict[str, str]:
    """Return the environment of Airflow's parts: all on loopback, nothing sent home."""
    own = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).resolve().parent / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{LOOPBACK}:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / PASSWORDS),
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://{LOOPBACK}:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    merged = own | dict(os.environ)
    merged["AIRFLOW_HOME"] = str(home)
    merged["PATH"] = f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    for name in ("no_proxy", "NO_PROXY"):
        merged[name] = ",".join(filter(None, [merged.get(name), LOOPBACK, "localhost"]))
    return merged


def main() -> int:
    """Start Airflow, say where it answers, wait, end it."""
    port = int(os.environ.get("AIRFLOW_PORT", "8080"))
    home = Path(os.environ.get("AIRFLOW_HOME") or PROJECT / ".demand" / "airflow").resolve()
    if free_port(port) != port:
        raise ServingError(f"port {port} is taken: set AIRFLOW_PORT to another one")
    logs = home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # the password lies in it
    environment = airflow_environment(home, port)
    with (logs / "database.log").open("wb") as log:
        migration = [PROGRAMS / "airflow", "db", "migrate"]
        if status := subprocess.run(migration, env=environment, stdout=log, stderr=log).returncode:
            raise ServingError(f"Airflow's database: exit status {status}, see {log.name}")

    def part(name: str, *options: str, health: str | None = None) -> Server:
        command = (PROGRAMS / "airflow", name, *options)
        return Server(f"Airflow's {name}", command, environment, logs / f"{name}.log", health)

    def ready() -> None:
        password = json.loads((home / PASSWORDS).read_text(encoding="utf-8"))["admin"]
        print(
            f"Airflow: http://{LOOPBACK}:{port}  user admin, password {password}\n"
            f"The DAG `retraining` is paused until you switch it on there. Logs: {logs}\n"
            "Ctrl-C ends it.",
            flush=True,
        )

    health = f"http://{LOOPBACK}:{port}/api/v2/monitor/health"
    parts = part("scheduler", "--skip-serve-logs"), part("dag-processor")
    serve_together([*parts, part("api-server", health=health)], ready)
    print("Airflow ends", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
