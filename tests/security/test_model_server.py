"""The model server in the hands of those who would stop it."""

from __future__ import annotations

import io
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import requests

from demand.registry.packaging import EXAMPLE_ADS, save_model
from demand.schema.records import frame_from_records
from tests.security.test_large_bodies import repeated
from tests.served import Served, model_server, wait_for
from tests.serving.standin import LOADER, Standin

pytestmark = pytest.mark.e2e

AD = {"title": "Стол письменный", "category_name": "Мебель и интерьер"}
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
# A thousand ads of a slow model take so long.
SLOW_S = 0.4


def saved(folder: Path, predictor: Standin) -> Path:
    save_model(predictor, folder, frame_from_records(EXAMPLE_ADS), loader_module=LOADER)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("model")
    with model_server(place / "log", saved(place / "model", Standin())) as server:
        yield server
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("model")
    folder = saved(place / "model", Standin(busy_s=SLOW_S / 1000))
    with model_server(place / "log", folder, seconds=2.0, waiting=1) as server:
        yield server
        assert "Traceback" not in server.log


def send(server: Served, body: bytes, kind: str = JSON) -> requests.Response:
    return server.post("/invocations", data=body, headers={"Content-Type": kind}, timeout=60)


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "JSON lists": (repeated(b"[],", b'{"inputs":[', b"[]]}"), JSON),
    "JSON numbers": (repeated(b"1,", b'{"inputs":{"title":[', b"1]}}"), JSON),
    "JSON keys": (repeated(b'"inputs":[],', b"{", b'"inputs":[]}'), JSON),
    "JSON depth": (repeated(b"["), JSON),
    "CSV rows": (repeated(b"a,b\n", b"title,category_name\n"), CSV),
    "CSV lines": (repeated(b"\n", b"title,category_name\n"), CSV),
    "CSV columns": (
        lambda: ",".join(f"c{n}" for n in range(100_000)).encode() + b"\n" + b"," * 99_999,
        CSV,
    ),
    "JSON columns": (
        lambda: json.dumps({"inputs": [{f"c{n}": 1 for n in range(100_000)}]}).encode(),
        JSON,
    ),
    "Parquet of one text": (
        lambda: parquet(pd.DataFrame({"title": ["а" * 10_000] * 40_000, "category_name": "b"})),
        PARQUET,
    ),
    "Parquet rows": (
        lambda: parquet(pd.DataFrame({"title": ["a"] * 3_000_000, "category_name": "b"})),
        PARQUET,
    ),
    "Parquet columns": (
        lambda: parquet(pd.DataFrame({f"c{n}": [1] for n in range(5_000)})),
        PARQUET,
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_soon_and_the_next_request_answered(server: Served, name: str) -> None:
    make, kind = BOMBS[name]
    body = make()
    begun = time.monotonic()
    found = send(server, body, kind)
    assert found.status_code in (400, 413)
    assert set(found.json()) == {"error_code", "message"}
    assert len(found.text) < 2000
    assert time.monotonic() - begun < 10
    assert send(server, json.dumps({"inputs": [AD]}).encode()).status_code == 200
    (worker,) = server.workers
    assert worker.memory_info().rss < 900 * 2**20


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"])
def test_pages_that_load_scripts_from_elsewhere_are_not_served(server: Served, path: str) -> None:
    assert server.get(path).status_code == 404


def test_a_packed_body_is_refused(server: Served) -> None:
    found = server.post("/invocations", json={}, headers={"Content-Encoding": "gzip"})
    assert found.status_code == 415


def ads(count: int) -> bytes:
    return json.dumps({"inputs": [AD | {"description": "a" * 60}] * count}).encode()


def test_when_the_time_is_over_the_work_ends(slow: Served) -> None:
    begun = time.monotonic()
    found = send(slow, ads(40_000))  # 16 s
    assert found.status_code == 504
    assert found.json()["message"] == "no answer within 2 s"
    assert time.monotonic() - begun < 4
    time.sleep(2 * SLOW_S)
    (worker,) = slow.workers
    assert worker.cpu_percent(1.0) < 30


def seconds(ask: Callable[[], requests.Response]) -> float:
    begun = time.monotonic()
    assert ask().status_code == 200
    return time.monotonic() - begun


def test_heavy_requests_stop_neither_pings_nor_small_requests(slow: Served) -> None:
    body, answers = ads(40_000), list[int]()
    heavy = [
        threading.Thread(target=lambda: answers.append(send(slow, body).status_code))
        for _ in range(6)
    ]
    for thread in heavy:
        thread.start()
    time.sleep(0.3)
    pings, small = [], []
    while any(thread.is_alive() for thread in heavy):
        pings.append(seconds(lambda: slow.get("/ping")))
        small.append(seconds(lambda: send(slow, ads(1))))
    for thread in heavy:
        thread.join()
    assert set(answers) <= {503, 504}
    assert 503 in answers
    assert statistics.median(pings) < 0.2
    assert statistics.median(small) < 0.5


def test_bodies_that_do_not_come_take_no_place(slow: Served) -> None:
    opened = [slow.connect() for _ in range(20)]
    for connection in opened:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
        )
    assert send(slow, ads(1)).status_code == 200
    assert send(slow, ads(1000)).status_code == 200
    for connection in opened:
        connection.close()


def test_memory_does_not_grow(server: Served) -> None:
    body = ads(20_000)

    def rounds(count: int) -> int:
        for _ in range(count):
            assert send(server, body).status_code == 200
        (worker,) = server.workers
        return worker.memory_info().rss

    before = rounds(5)
    assert rounds(15) - before < 60 * 2**20


def test_a_killed_worker_comes_back_while_the_other_answers(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", Standin())
    with model_server(tmp_path / "log", folder, workers=2) as server:
        wait_for(lambda: len(server.workers) == 2)
        # Only the main thread survives a fork.
        assert psutil.Process(server.process.pid).num_threads() <= 8
        killed = server.workers[0]
        killed.kill()
        wait_for(lambda: killed not in server.workers and len(server.workers) == 2)
        for _ in range(20):
            assert send(server, ads(1)).status_code == 200
