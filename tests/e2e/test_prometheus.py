"""Real Prometheus and Alertmanager over a real API: an alert comes, and it is over."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from demand.serving.http.server import LOOPBACK, free_port
from demand.workspace.workspace import Workspace
from tests.deployment.test_prometheus import MONITORING, dashboard_queries
from tests.e2e.api import Api
from tests.e2e.installation import AD
from tests.receiver import Receiver, receiving
from tests.served import tiny_model, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("prometheus-alertmanager")),
        reason="apt-get install prometheus prometheus-alertmanager",
    ),
]
SOON = "250ms"
WAIT_S = 60


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((MONITORING / name).read_text(encoding="utf-8")))


def write_configs(folder: Path, api: str, alertmanager: str, receiver: str) -> None:
    """Write the project's own files with other addresses, and with hardly any waiting."""
    prometheus, rules, routing = map(read, ("prometheus.yml", "alerts.yml", "alertmanager.yml"))
    prometheus["global"] = {"scrape_interval": SOON, "scrape_timeout": SOON}
    prometheus["global"]["evaluation_interval"] = SOON
    prometheus["scrape_configs"][0]["static_configs"] = [{"targets": [api]}]
    prometheus["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager]}]
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = SOON
    routing["route"] |= {"group_wait": SOON, "group_interval": SOON}
    routing["receivers"][0]["webhook_configs"][0]["url"] = f"http://{receiver}/alerts"
    for name, config in (
        ("prometheus.yml", prometheus),
        ("alerts.yml", rules),
        ("alertmanager.yml", routing),
    ):
        (folder / name).write_text(yaml.safe_dump(config), encoding="utf-8")


@contextmanager
def started(folder: Path, program: str, url: str, *options: str) -> Iterator[None]:
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(lambda: answers(f"{url}/-/ready"), WAIT_S)
        yield
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def start_api(folder: Path, port: int | None = None) -> Api:
    options = ["--model", str(tiny_model()), "--workers", "1"]
    options += ["--port", str(port)] if port else []
    api = Api(Workspace(folder / "home"), folder / "api.log", options=options)
    api.port = port or api.port
    api.url = f"http://{LOOPBACK}:{api.port}"
    api.wait("/ready", 200)
    return api


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """Return the alerts that came, in order, each once for a state."""
    found = [
        (alert["labels"]["alertname"], alert["status"])
        for message in receiver.got
        for alert in message["alerts"]
    ]
    return list(dict.fromkeys(found))


def test_an_api_that_goes_and_comes_is_told_and_told_to_be_back(tmp_path: Path) -> None:
    api = start_api(tmp_path)
    prometheus, alertmanager = (f"{LOOPBACK}:{free_port(port)}" for port in (26090, 26490))
    with receiving() as receiver:
        write_configs(tmp_path, f"{LOOPBACK}:{api.port}", alertmanager, receiver.address)
        try:
            with (
                started(
                    tmp_path,
                    "prometheus-alertmanager",
                    f"http://{alertmanager}",
                    "--config.file=alertmanager.yml",
                    "--storage.path=alertmanager",
                    f"--web.listen-address={alertmanager}",
                    "--cluster.listen-address=",
                ),
                started(
                    tmp_path,
                    "prometheus",
                    f"http://{prometheus}",
                    "--config.file=prometheus.yml",
                    "--storage.tsdb.path=prometheus",
                    f"--web.listen-address={prometheus}",
                    "--rules.alert.resend-delay=1s",
                ),
            ):
                for query in dashboard_queries():
                    wait_for(partial(has_figures, api, prometheus, query), WAIT_S)
                assert told(receiver) == []
                api.end()
                wait_for(lambda: len(told(receiver)) == 1, WAIT_S)
                api = start_api(tmp_path, api.port)
                wait_for(lambda: len(told(receiver)) == 2, WAIT_S)
                down = "DemandApiDown"
                assert told(receiver) == [(down, "firing"), (down, "resolved")]
        finally:
            api.end()


def has_figures(api: Api, prometheus: str, query: str) -> bool:
    """Ask the API about an ad, and Prometheus; say whether it has figures."""
    requests.post(f"{api.url}/predict", json=AD, timeout=5).raise_for_status()
    answer = requests.get(f"http://{prometheus}/api/v1/query", {"query": query}, timeout=5)
    assert answer.status_code == 200, answer.text
    return any(row["value"][1] != "NaN" for row in json.loads(answer.text)["data"]["result"])
