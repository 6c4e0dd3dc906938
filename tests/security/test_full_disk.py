"""The API where the disk is full, or where nobody reads what it writes."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from demand.serving.api.server import SHARED_METRICS, share_metrics
from tests.full_disk import full_disk, small_disk
from tests.served import Served, api, command, running, tiny_model, wait_for

AD = {"title": "Велосипед горный", "category_name": "Велосипеды"}
DISK_BYTES = 8 * 2**20


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the variable after the test, whoever sets it."""
    monkeypatch.setenv(SHARED_METRICS, "before")


@pytest.mark.usefixtures("variable")
def test_where_there_is_room_workers_count_together(tmp_path: Path) -> None:
    share_metrics(tmp_path)
    assert os.environ[SHARED_METRICS] == str(tmp_path)
    # All of it is there before anything is mapped.
    assert all(path.stat().st_blocks * 512 >= 2**20 for path in tmp_path.iterdir())


@pytest.mark.usefixtures("variable")
def test_where_there_is_none_each_counts_for_itself(tmp_path: Path) -> None:
    with full_disk(2**19):
        share_metrics(tmp_path)
    assert SHARED_METRICS not in os.environ
    assert all(path.stat().st_size == 0 for path in tmp_path.iterdir())


@pytest.mark.usefixtures("variable")
def test_where_there_is_no_folder_each_counts_for_itself(tmp_path: Path) -> None:
    share_metrics(tmp_path / "nowhere")
    assert SHARED_METRICS not in os.environ


def fill(disk: Path) -> None:
    with (disk / "full").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))
    with (disk / "last").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x")


def answers(server: Served) -> None:
    """Ask on every route, some new to the metrics, of every worker."""
    for _ in range(30):
        assert server.post("/predict", json=AD).status_code == 200
        assert server.post("/predict", json=[AD] * 100).status_code == 200
        assert server.post("/predict", json={}).status_code == 422
        assert server.get("/nothing").status_code == 404
        assert server.get("/info").status_code == 200
    assert "demand_requests_total" in server.get("/metrics").text


@pytest.mark.e2e
@pytest.mark.parametrize("full", ["before its start", "while it serves"])
def test_on_a_full_disk_every_request_is_answered(tmp_path: Path, full: str) -> None:
    with small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        if full == "before its start":
            fill(disk)
        environment = {"TMPDIR": str(disk)}
        with api(tmp_path / "log", environment=environment, workers=2) as server:
            wait_for(lambda: len(server.workers) == 2)
            before = server.workers
            answers(server)
            if full == "while it serves":
                fill(disk)
                answers(server)
            assert server.workers == before
            # One that is started now finds no room.
            before[0].kill()
            wait_for(lambda: len(server.workers) == 2 and before[0] not in server.workers)
            answers(server)
            assert server.end() == 0
            assert "Traceback" not in server.log


@pytest.mark.e2e
def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    starts = command("api", model=str(tiny_model()), access_log=True)
    read, written = os.pipe()
    with subprocess.Popen(starts, stderr=written, stdout=written) as process:
        # A description of its own: what makes this one fail where it is full leaves the
        # server's as it is.
        filled = os.open(f"/proc/self/fd/{written}", os.O_WRONLY | os.O_NONBLOCK)
        os.close(written)
        told = b""
        while not (found := re.search(rb"answers at (http://\S+:\d+)\n", told)):
            told += os.read(read, 1)
        server = object.__new__(Served)
        server.process, server.url = process, found[1].decode()
        try:
            with running(server):
                # Each makes a line of about 200 bytes; a pipe takes 64 KB.
                for _ in range(600):
                    assert server.post("/predict", json=AD).status_code == 200
                # So far there was room for a short line.
                with contextlib.suppress(BlockingIOError):
                    while True:
                        os.write(filled, b"x")
                (worker,) = server.workers
                worker.kill()
                wait_for(lambda: responds(server))
                process.terminate()
                assert process.wait(20) == 0
        finally:
            os.close(filled)
            os.close(read)


def responds(server: Served) -> bool:
    try:
        return server.get("/health", timeout=5).status_code == 200
    except OSError:
        return False
