"""Cheap bodies that cost the API much, while somebody asks about one ad at a time."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from tests.security.test_large_bodies import HOSTILE
from tests.served import Served, api

AD = {"title": "Велосипед горный", "category_name": "Велосипеды"}
P90_S = 0.5
JSON = {"Content-Type": "application/json"}

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with api(tmp_path_factory.mktemp("api") / "log") as server:
        assert server.post("/predict", json=AD).status_code == 200
        yield server
        assert "Traceback" not in server.log


def seconds_of_small_requests(server: Served, body: bytes) -> list[float]:
    """Return what small requests take while two clients send a body again and again."""
    done = threading.Event()
    statuses: set[int] = set()

    def send() -> None:
        with requests.Session() as session:
            while not done.is_set():
                found = session.post(f"{server.url}/predict", body, headers=JSON, timeout=60)
                statuses.add(found.status_code)

    sending = [threading.Thread(target=send) for _ in range(2)]
    for thread in sending:
        thread.start()
    found = []
    with requests.Session() as session:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            begun = time.monotonic()
            assert session.post(f"{server.url}/predict", json=AD, timeout=60).status_code == 200
            found.append(time.monotonic() - begun)
    done.set()
    for thread in sending:
        thread.join()
    assert statuses <= {400, 413, 422, 503}
    return found


@pytest.mark.parametrize(
    "name", ["lists", "objects", "numbers", "keys", "depth", "texts", "commas in a text"]
)
def test_small_requests_are_answered_beside_it(server: Served, name: str) -> None:
    found = seconds_of_small_requests(server, HOSTILE[name]())
    assert statistics.quantiles(found, n=10)[-1] < P90_S
    (worker,) = server.workers
    assert worker.memory_info().rss < 600 * 2**20


def test_objects_within_objects_are_refused(server: Served) -> None:
    body = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    found = server.post("/predict", data=body, headers=JSON)
    assert found.status_code in (400, 413)
