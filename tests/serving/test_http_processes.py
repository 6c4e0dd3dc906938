"""The processes of a server: workers replaced, ports kept, signals heeded."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from demand.errors import ServingError
from demand.serving.http.server import free_port, reserved
from tests.served import Served, api, command, everything, listens, tiny_model, wait_for
from tests.serving.http.test_server import AD, BODY, head, passing_on, statuses

IN_USE = "Address already in use"
ALL = "0.0.0.0"  # noqa: S104
e2e = pytest.mark.e2e


def running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def reserve(host: str, port: int) -> None:
    with reserved(host, port):
        pass


def refused(**options: Any) -> str:
    """Start an API that cannot start; return what it says."""
    done = subprocess.run(
        command("api", model=str(tiny_model()), **options),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", ALL, "::"])
def test_a_free_port_is_reserved_and_let_go(host: str) -> None:
    with reserved(host, 0) as port, pytest.raises(ServingError, match=f":{port}: {IN_USE}"):
        reserve(host, port)
    with reserved(host, port) as again:
        assert again == port


@pytest.mark.parametrize(("first", "second"), [(ALL, "127.0.0.1"), ("127.0.0.1", ALL)])
def test_all_interfaces_and_one_of_them_are_the_same_port(first: str, second: str) -> None:
    with reserved(first, 0) as port, pytest.raises(ServingError, match=IN_USE):
        reserve(second, port)


@pytest.mark.parametrize(("listening", "asked"), [(ALL, "127.0.0.1"), ("127.0.0.1", ALL)])
def test_a_port_that_something_else_listens_on_is_taken(listening: str, asked: str) -> None:
    with socket.create_server((listening, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServingError, match=f"cannot listen on {asked}:{port}: {IN_USE}"):
            reserve(asked, port)


def test_a_taken_port_is_passed_over() -> None:
    with reserved("127.0.0.1", 0) as taken:
        assert free_port(taken, "127.0.0.1") > taken


def test_a_host_of_another_machine_is_named_with_the_way_out() -> None:
    with pytest.raises(ServingError, match=r"192\.0\.2\.1:80.*change deploy\.host"):
        free_port(80, "192.0.2.1")


def test_a_host_without_an_address_is_named() -> None:
    with pytest.raises(ServingError, match=r"cannot listen on a\.\.b: it has no address"):
        free_port(80, "a..b")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with api(tmp_path_factory.mktemp("api") / "log", workers=2) as server:
        wait_for(lambda: len(server.workers) == 2)
        yield server


@e2e
@pytest.mark.parametrize("host", ["127.0.0.1", ALL])
def test_a_second_server_of_ours_is_refused(server: Served, host: str) -> None:
    assert refused(host=host, port=server.port).endswith(
        f"error: cannot listen on {host}:{server.port}: {IN_USE}"
    )
    assert server.get("/health").status_code == 200


@e2e
@pytest.mark.parametrize(
    ("host", "other"), [("::1", "::"), ("localhost", "127.0.0.1"), (ALL, "127.0.0.1")]
)
def test_a_server_listens_where_it_is_told_and_says_so_once(
    tmp_path: Path, host: str, other: str
) -> None:
    with api(tmp_path / "log", host=host, workers=2) as server:
        assert server.get("/health").status_code == 200
        assert refused(host=other, port=server.port).endswith(IN_USE)
        wait_for(lambda: len(server.workers) == 2)
        assert server.log.count("answers at") == 1


@e2e
def test_of_servers_that_start_together_on_a_port_one_serves(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    starts = command("api", model=str(tiny_model()), port=port)
    started = [subprocess.Popen(starts, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        wait_for(lambda: sum(each.poll() is None for each in started) == 1, 60)
        (winner,) = [each for each in started if each.poll() is None]
        wait_for(lambda: listens("127.0.0.1", port))
        for each in started:
            if each is not winner:
                assert each.returncode == 1
                assert each.stderr is not None
                assert each.stderr.read().strip().endswith(IN_USE)
    finally:
        for each in started:
            each.terminate()
            each.wait(30)


@e2e
def test_a_killed_worker_is_replaced_and_others_go_on(server: Served) -> None:
    before = server.workers
    done, failures, asked = threading.Event(), list[str](), list[int]()

    def ask() -> None:
        """Ask over one kept connection, and over another where the worker has gone."""
        session = requests.Session()
        while not done.is_set():
            try:
                asked.append(session.post(f"{server.url}/predict", json=AD, timeout=20).status_code)
            except requests.ConnectionError as error:
                session = requests.Session()
                if "refused" in str(error):
                    failures.append(str(error))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    wait_for(lambda: len(asked) > 50)
    before[0].kill()
    wait_for(lambda: len(server.workers) == 2 and before[0] not in server.workers)
    answered = len(asked)
    wait_for(lambda: len(asked) > answered + 200)
    done.set()
    for thread in asking:
        thread.join()
    assert failures == []
    assert set(asked) == {200}
    assert before[1].is_running()
    assert "Unexpected exit from worker-" in server.log


@e2e
def test_a_worker_that_ends_again_at_once_ends_the_server(tmp_path: Path) -> None:
    with api(tmp_path / "log") as server:
        for _ in range(2):
            (worker,) = server.workers
            worker.kill()
            worker.wait(10)
            with contextlib.suppress(psutil.NoSuchProcess, AssertionError):
                wait_for(lambda: bool(server.workers), 5)
        assert server.process.wait(30) == 1
        assert "error: a worker ended again just after it had been replaced" in server.log


@e2e
@pytest.mark.parametrize(
    ("number", "whom"),
    [(signal.SIGTERM, "the master"), (signal.SIGINT, "all, as a terminal does")],
)
def test_a_signal_ends_it_at_once_where_nothing_is_left_to_do(
    tmp_path: Path, number: signal.Signals, whom: str
) -> None:
    with api(tmp_path / "log", workers=2) as server:
        wait_for(lambda: len(server.workers) == 2)
        processes = [psutil.Process(server.process.pid), *server.workers]
        assert server.get("/health").status_code == 200
        begun = time.monotonic()
        if whom == "the master":
            server.process.send_signal(number)
        else:
            os.killpg(server.process.pid, number)
        assert server.process.wait(30) == 0
        assert time.monotonic() - begun < 5
        assert not any(map(running, processes))
        assert "Traceback" not in server.log


@e2e
def test_a_signal_while_workers_load_ends_it(tmp_path: Path) -> None:
    """Granian alone would lose it, and wait for ten seconds."""
    starts = command("api", model=str(tiny_model()), workers=2)
    for pause in (0.0, 0.05, 0.3):
        with subprocess.Popen(starts, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            master = psutil.Process(process.pid)
            wait_for(lambda master=master: bool(master.children()))
            time.sleep(pause)
            begun = time.monotonic()
            process.terminate()
            assert process.wait(30) in (0, -signal.SIGTERM)
            assert time.monotonic() - begun < 5


@e2e
def test_what_is_in_progress_is_finished(tmp_path: Path) -> None:
    with passing_on(tmp_path / "log") as (server, upstream):
        with server.connect() as connection, server.connect() as idle:
            connection.sendall(head(2, "/invocations") + b"{}")
            assert upstream.inside.acquire(timeout=10)
            server.process.terminate()
            wait_for(lambda: not listens("127.0.0.1", server.port))
            assert server.process.poll() is None
            upstream.free.set()
            found = everything(connection)
            assert statuses(found) == [200]
            assert found.endswith(b"\r\n\r\n2")
            assert everything(idle) == b""
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log


@e2e
def test_what_does_not_finish_is_ended(tmp_path: Path) -> None:
    with passing_on(tmp_path / "log") as (server, upstream):
        with server.connect() as connection:
            connection.sendall(head(2, "/invocations") + b"{}")
            assert upstream.inside.acquire(timeout=10)
            processes = [psutil.Process(server.process.pid), *server.workers]
            begun = time.monotonic()
            assert server.end() == 0
            assert time.monotonic() - begun < 14
        assert not any(map(running, processes))


@e2e
def test_a_killed_master_takes_its_workers_along(tmp_path: Path) -> None:
    with api(tmp_path / "log", workers=2) as server:
        wait_for(lambda: len(server.workers) == 2)
        left = server.workers
        with server.connect() as connection:
            connection.sendall(head(len(BODY)) + BODY)
            assert statuses(connection.recv(65536)) == [200]
            server.process.kill()
            wait_for(lambda: not any(map(running, left)))
        assert not listens("127.0.0.1", server.port)
