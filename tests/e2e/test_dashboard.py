"""The real dashboard beside real ZenML runs.

The tests share an installation, and each ends the dashboard that it starts.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from demand.serving.http.server import LOOPBACK, free_port
from demand.workspace.workspace import PROJECT_ROOT

pytestmark = pytest.mark.e2e

START = "import sys; from cli.dashboard import run_dashboard; "
START += "sys.exit(run_dashboard(int(sys.argv[1]), int(sys.argv[2])))"
STOP = "from cli.dashboard import stop_dashboards; print(stop_dashboards())"
PIPELINE = """
import sys
from typing import Annotated
from zenml import pipeline, step
from zenml.types import HTMLString

@step(enable_cache=False)
def write_page() -> Annotated[HTMLString, "page"]:
    return HTMLString("<h1>Seen in the dashboard</h1>")

@pipeline(name="tiny")
def tiny():
    write_page()

tiny.with_options(run_name=sys.argv[1])()
"""


class Installation:
    """State folders of their own, and the commands of a user in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "dashboard.txt"
        self.dashboard: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "DEMAND_HOME": str(folder / "home"),
            "ZENML_CONFIG_PATH": str(folder / "zen"),
            "ZENML_ANALYTICS_OPT_IN": "false",
            "OMP_NUM_THREADS": "1",
        }
        (folder / "tiny.py").write_text(PIPELINE, encoding="utf-8")

    def run_pipeline(self, name: str) -> int:
        command = [sys.executable, "tiny.py", name]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, timeout=300
        ).returncode

    def start(self, zenml_port: int, mlflow_port: int) -> None:
        command = [sys.executable, "-u", "-c", START, str(zenml_port), str(mlflow_port)]
        with self.output.open("wb") as output:
            self.dashboard = subprocess.Popen(
                command, cwd=PROJECT_ROOT, env=self.environment, stdout=output, stderr=output
            )
        wait_for(lambda: "Ctrl-C" in self.printed() or self.dashboard.poll() is not None, 200)
        assert "Ctrl-C" in self.printed(), self.printed()

    def stop(self) -> str:
        command = [sys.executable, "-c", STOP]
        return subprocess.run(
            command, cwd=PROJECT_ROOT, env=self.environment, capture_output=True, timeout=120
        ).stdout.decode()

    def printed(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def addresses(self) -> list[str]:
        """Return those of ZenML's dashboard and MLflow's UI."""
        return [line.split()[-1] for line in self.printed().splitlines() if "  http://" in line]

    def servers(self) -> list[psutil.Process]:
        return psutil.Process(self.dashboard.pid).children()


def wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=2).ok
    except requests.RequestException:
        return False


def get(address: str, path: str) -> dict:
    answer = requests.get(f"{address}/api/v1/{path}", timeout=30)
    answer.raise_for_status()
    return answer.json()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory):
    installation = Installation(tmp_path_factory.mktemp("installation"))
    yield installation
    installation.stop()


def test_runs_work_before_during_and_after_a_dashboard_that_was_killed(installation: Installation):
    assert installation.run_pipeline("before") == 0
    configuration = (installation.folder / "zen" / "config.yaml").read_bytes()
    installation.start(free_port(24100), free_port(24150))
    zenml, mlflow = installation.addresses()

    assert installation.run_pipeline("during") == 0

    runs = {run["name"]: run["body"]["status"] for run in get(zenml, "runs")["items"]}
    assert runs == {"before": "completed", "during": "completed"}
    for version in get(zenml, "artifact_versions?name=page")["items"]:
        page = get(zenml, f"artifact_versions/{version['id']}/visualize")
        assert page == {"type": "html", "value": "<h1>Seen in the dashboard</h1>"}
    assert get(zenml, "current-user")["body"]["email_opted_in"] is False
    assert "<html" in requests.get(zenml, timeout=30).text
    assert "<html" in requests.get(mlflow, timeout=30).text

    servers = installation.servers()
    for process in [psutil.Process(installation.dashboard.pid), *servers]:
        process.send_signal(signal.SIGKILL)
    installation.dashboard.wait()

    assert installation.run_pipeline("after") == 0
    assert (installation.folder / "zen" / "config.yaml").read_bytes() == configuration
    # MLflow's server has a child of its own, which outlived it.
    assert installation.stop() == "True\n"
    assert not answers(mlflow)


def test_sigterm_ends_both_servers_and_frees_their_ports(installation: Installation):
    taken = free_port(24200)
    with socket.socket() as other:
        other.bind((LOOPBACK, taken))
        other.listen()
        installation.start(taken, free_port(24250))
    addresses = installation.addresses()

    installation.dashboard.send_signal(signal.SIGTERM)

    assert installation.dashboard.wait(60) == 0
    port = addresses[0].rsplit(":", 1)[1]
    assert f"Port {taken} is taken: ZenML gets {port}." in installation.printed()
    assert not any(map(answers, addresses))


def test_a_second_dashboard_only_says_where_the_first_one_is_and_stopping_ends_that(
    installation: Installation,
):
    port = free_port(24500)
    installation.start(port, port)
    first = installation.servers()

    second = subprocess.run(
        [sys.executable, "-c", START, str(port), str(port)],
        cwd=PROJECT_ROOT,
        env=installation.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert second.returncode == 0
    assert all(address in second.stdout for address in installation.addresses())
    assert installation.servers() == first

    assert installation.stop() == "True\n"
    assert installation.dashboard.wait(60) == 0
    assert not any(map(answers, installation.addresses()))


def test_a_server_that_dies_is_named_and_the_other_is_stopped(installation: Installation):
    installation.start(free_port(24300), free_port(24350))
    zenml, _ = installation.addresses()
    mlflow = next(each for each in installation.servers() if "mlflow" in each.cmdline())

    mlflow.send_signal(signal.SIGKILL)

    assert installation.dashboard.wait(60) == 1
    assert "MLflow's UI was ended by SIGKILL; its log" in installation.printed()
    assert not answers(zenml)


def test_stopping_ends_what_a_killed_dashboard_left_running(installation: Installation):
    installation.start(free_port(24400), free_port(24450))
    addresses = installation.addresses()
    installation.dashboard.kill()
    installation.dashboard.wait()

    assert installation.stop() == "True\n"
    assert not any(map(answers, addresses))
    assert installation.stop() == "False\n"
