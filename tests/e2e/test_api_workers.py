"""The API with several workers: they count together, and one that is killed is replaced."""

from __future__ import annotations

import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from demand.workspace.workspace import Workspace
from tests.e2e.api import Api
from tests.e2e.installation import AD
from tests.served import wait_for
from tests.tiny_model import tiny_predictor

pytestmark = pytest.mark.e2e

REQUESTS = 40


@pytest.fixture
def api(tmp_path: Path):
    tiny_predictor().save(tmp_path / "model")
    log = tmp_path / "api.log"
    api = Api(
        Workspace(tmp_path / "home"),
        log,
        options=("--workers", "2", "--model", str(tmp_path / "model")),
    )
    api.wait("/ready", 200)
    wait_for_two(api)
    yield api
    if api.process.poll() is None:
        assert api.end() == 0, log.read_text()


def workers(api: Api) -> list[psutil.Process]:
    return psutil.Process(api.process.pid).children()


def wait_for_two(api: Api) -> None:
    deadline = time.monotonic() + 10
    while len(workers(api)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answered(api: Api) -> float:
    text = requests.get(f"{api.url}/metrics", timeout=5).text
    found = re.search(r'demand_requests_total\{route="/predict",status="200"\} (\S+)', text)
    return float(found[1]) if found else 0.0


def ask(api: Api, _: int = 0) -> int:
    return requests.post(f"{api.url}/predict", json=AD, timeout=10).status_code


def test_whoever_is_asked_for_metrics_tells_those_of_all_workers(api: Api) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda n: ask(api, n), range(REQUESTS))) == {200}
    assert {answered(api) for _ in range(10)} == {REQUESTS}


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGABRT])
def test_a_worker_that_ends_is_replaced_and_what_it_counted_stays(
    api: Api, end: signal.Signals
) -> None:
    for number in range(REQUESTS):
        assert ask(api, number) == 200
    killed = workers(api)[0]
    killed.send_signal(end)
    killed.wait(10)
    wait_for_two(api)
    assert ask(api) == 200
    assert answered(api) == REQUESTS + 1
    assert "demand_in_flight 0.0" in requests.get(f"{api.url}/metrics", timeout=5).text


def test_every_line_of_the_log_is_one_request(api: Api, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: ask(api, n), range(REQUESTS)))

    def logged() -> list[dict[str, object]]:
        text = (tmp_path / "api.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    wait_for(lambda: sum(line["route"] == "/predict" for line in logged()) == REQUESTS)
    lines = logged()
    assert len({line["id"] for line in lines}) == len(lines)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_where_nothing_is_left_to_do(api: Api, end: signal.Signals) -> None:
    assert ask(api) == 200
    begun = time.monotonic()
    api.process.send_signal(end)
    assert api.process.wait(30) == 0
    assert time.monotonic() - begun < 5


def test_workers_end_with_their_master(api: Api) -> None:
    left = workers(api)
    api.process.kill()
    assert not psutil.wait_procs(left, timeout=10)[1]
    with pytest.raises(requests.ConnectionError):
        ask(api)
