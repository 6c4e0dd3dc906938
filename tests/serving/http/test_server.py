"""What stands before Flask, asked through sockets: framing, bounds, patience, order."""

from __future__ import annotations

import json
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.served import Served, api, command, everything, running, wait_for

pytestmark = pytest.mark.e2e

AD = {"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}
BODY = json.dumps(AD).encode()
BODY_BYTES = 100_000
HASTY = {"head_s": 0.5, "timeouts": {"silent_s": 0.5, "body_s": 2.0}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("api") / "log"
    with api(log, body_bytes=BODY_BYTES, ads=1000) as server:
        yield server
        assert "Traceback" not in server.log
        assert server.process.poll() is None


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with api(tmp_path_factory.mktemp("api") / "log", body_bytes=BODY_BYTES, **HASTY) as server:
        yield server


def head(length: int | None, path: str = "/predict", more: str = "") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    lines += [more] if more else []
    return "\r\n".join([*lines, "", ""]).encode()


GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def statuses(found: bytes) -> list[int]:
    return [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d+)", found)]


def post(server: Served, body: Any) -> requests.Response:
    """Send a body to ``/predict``, in chunks where it is a generator."""
    return server.post("/predict", data=body, headers={"Content-Type": "application/json"})


def test_a_body_in_chunks_is_answered_like_a_whole_one(server: Served) -> None:
    body = json.dumps([AD] * 300).encode()
    whole = post(server, body)
    assert whole.status_code == 200
    pieces = (body[first : first + 997] for first in range(0, len(body), 997))
    assert post(server, pieces).json() == whole.json()


def test_a_body_that_is_declared_too_long_is_refused_before_it_comes(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(head(BODY_BYTES + 1))
        assert statuses(connection.recv(65536)) == [413]


@pytest.mark.parametrize("size", [2 * BODY_BYTES, 50_000_000])
def test_a_client_that_sends_too_much_hears_so(server: Served, size: int) -> None:
    for body in (bytes(size), (bytes(65536) for _ in range(size // 65536))):
        found = post(server, body)
        assert found.status_code == 413
        assert found.json()["status"] == 413


def test_after_a_refusal_the_next_request_is_answered(server: Served) -> None:
    with requests.Session() as session:
        session.headers["Content-Type"] = "application/json"
        refused = session.post(f"{server.url}/predict", data=bytes(BODY_BYTES + 1), timeout=20)
        assert refused.status_code == 413
        assert session.post(f"{server.url}/predict", json=AD, timeout=20).status_code == 200


def test_requests_that_are_sent_together_are_answered_in_their_order(server: Served) -> None:
    found = server.send(head(len(BODY)) + BODY + head(1) + b"{" + GET + LAST)
    assert statuses(found) == [200, 400, 200, 200]


def test_each_of_500_requests_sent_ahead_is_answered(server: Served) -> None:
    assert statuses(server.send(GET * 499 + LAST)) == [200] * 500


def test_far_too_many_requests_sent_ahead_take_no_memory(server: Served) -> None:
    """A client that sends and never reads is made to wait."""
    (worker,) = server.workers
    before = worker.memory_info().rss
    with server.connect(2) as connection, pytest.raises(OSError, match=r"timed out|reset|pipe"):
        connection.sendall(GET * 2_000_000)
    assert worker.memory_info().rss - before < 30 * 2**20
    assert server.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["//predict", "/%2Fpredict", "///predict"])
def test_a_path_with_more_slashes_is_the_same(server: Served, path: str) -> None:
    with server.connect() as connection:
        connection.sendall(head(len(BODY), path) + BODY)
        assert statuses(connection.recv(65536)) == [200]


def test_what_follows_a_body_in_chunks_is_no_header(server: Served) -> None:
    chunked = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n" % len(BODY) + BODY
    chunked += b"\r\n0\r\nContent-Type: application/json\r\n\r\n"
    assert statuses(server.send(chunked + LAST)) == [415, 200]


def test_a_client_that_sends_no_more_harms_nobody(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(head(len(BODY)) + BODY)
        connection.shutdown(socket.SHUT_WR)
        assert statuses(everything(connection)) in ([], [200])
    assert server.get("/health").status_code == 200


def test_an_offer_of_another_protocol_is_left_out(server: Served) -> None:
    """Java's HttpClient makes it with every request."""
    offer = (
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"
    )
    smuggled = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert statuses(server.send(head(len(BODY), more=offer) + BODY + LAST)) == [200, 200]
    assert statuses(server.send(head(len(smuggled), more=offer) + smuggled + LAST)) == [400, 200]


NO_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n",
    "two lengths": head(4, more="Content-Length: 5") + b"abcde",
    "a list of lengths": head(None, more="Content-Length: 4, 4") + b"abcd",
    "a signed length": head(None, more="Content-Length: +4") + b"abcd",
    "another coding": head(None, more="Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "chunked is not last": head(None, more="Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "space before a colon": head(None, more="Transfer-Encoding : chunked") + b"0\r\n\r\n",
    "a folded line": head(None, more="Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n",
    "chunks in HTTP/1.0": (
        b"POST /predict HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a length and chunks": head(4, more="Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "a negative chunk": head(None, more="Transfer-Encoding: chunked") + b"-2\r\n{}\r\n0\r\n\r\n",
    "an endless chunk": head(None, more="Transfer-Encoding: chunked") + b"f" * 17 + b"\r\n{}",
}


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_refused_and_smuggles_nothing(server: Served, sent: bytes) -> None:
    assert statuses(server.send(sent + GET)) == [400]


def drip(connection: socket.socket, drop: bytes, pause_s: float) -> float:
    """Send drops until the server ends the connection; return seconds."""
    begun = time.monotonic()
    try:
        while time.monotonic() - begun < 20:
            connection.sendall(drop)
            time.sleep(pause_s)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return time.monotonic() - begun


def test_a_head_without_end_is_refused(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        seconds = drip(connection, b"X-A: " + b"a" * 1000 + b"\r\n", 0.001)
    assert seconds < 10


@pytest.mark.parametrize("headers", [101, 2000])
def test_a_head_of_too_many_headers_is_refused(server: Served, headers: int) -> None:
    sent = GET[:-2] + b"".join(b"X-%d: a\r\n" % n for n in range(headers)) + b"\r\n"
    assert statuses(server.send(sent)) == [431]


STOPS = {
    "nothing": (b"", []),
    "an empty line": (b"\r\n", []),
    "half a line": (b"POST /predict HT", []),
    "half a second request": (GET + b"GET", [200]),
    "half a body": (head(100) + b"{", [408]),
    "half a chunk": (head(None, more="Transfer-Encoding: chunked") + b"5\r\n{", [408]),
    "a refused body": (head(BODY_BYTES + 1) + b"{", [413]),
}


@pytest.mark.parametrize(("sent", "answers"), STOPS.values(), ids=STOPS)
def test_a_request_that_stops_coming_is_ended(
    hasty: Served, sent: bytes, answers: list[int]
) -> None:
    begun = time.monotonic()
    assert statuses(hasty.send(sent)) == answers
    assert time.monotonic() - begun < 10


def test_a_problem_tells_of_a_body_that_stopped(hasty: Served) -> None:
    found, _, problem = hasty.send(head(100) + b"{").partition(b"\r\n\r\n")
    assert b"application/problem+json" in found
    assert json.loads(problem)["detail"] == "the request stopped coming"


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nX-A: ", head(100_000) + b"["])
def test_a_request_that_comes_in_drips_is_ended_too(hasty: Served, sent: bytes) -> None:
    with hasty.connect(1) as connection:
        connection.sendall(sent)
        assert drip(connection, b" ", 0.05) < 10


def test_a_client_that_does_not_read_is_let_go(tmp_path: Path) -> None:
    started = Served(command("much", unread_s=0.5), tmp_path / "log")
    with running(started) as server, server.connect() as connection:
        connection.sendall(GET)
        time.sleep(1.5)
        assert len(everything(connection)) < 2**26
        assert len(server.get("/").content) == 2**26


def test_bodies_that_are_on_their_way_have_a_bound(tmp_path: Path) -> None:
    """Clients that each send half of a large body, and then the others hear no."""
    half = b"[" + b" " * 70_000
    with api(tmp_path / "log", body_bytes=BODY_BYTES) as server:
        slow = [server.connect() for _ in range(13)]
        for connection in slow:
            connection.sendall(head(BODY_BYTES) + half)
        refused, _, _ = select.select(slow, [], [], 10)
        found = refused[0].recv(65536)
        assert statuses(found) == [503]
        assert b"retry-after: 1" in found
        assert server.get("/health").status_code == 200
        for connection in slow:
            connection.close()
        body = json.dumps([AD] * 300).encode()
        wait_for(lambda: post(server, body).status_code == 200)


def test_without_the_token_no_body_is_read_and_no_room_is_taken(tmp_path: Path) -> None:
    with api(tmp_path / "log", token="secret", body_bytes=BODY_BYTES) as server:
        slow = [server.connect() for _ in range(30)]
        for connection in slow:
            connection.sendall(head(BODY_BYTES) + b"[" + b" " * 70_000)
            assert statuses(connection.recv(65536)) == [401]
        token = {"Authorization": "Bearer secret"}
        answer = server.post("/predict", json=[AD] * 300, headers=token)
        assert answer.status_code == 200


class Upstream:
    """A model server that answers when it is told to."""

    def __init__(self) -> None:
        self.inside, self.free = threading.Semaphore(0), threading.Event()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                upstream.inside.release()
                assert upstream.free.wait(20)
                answer = str(len(body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def passing_on(log: Path, **options: Any) -> Iterator[tuple[Served, Upstream]]:
    upstream = Upstream()
    try:
        with api(log, model_server=upstream.url, **options) as server:
            yield server, upstream
    finally:
        upstream.free.set()
        upstream.server.shutdown()
        upstream.server.server_close()


def asking(count: int, ask: Callable[[], int]) -> tuple[list[threading.Thread], list[int]]:
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


def test_more_than_are_let_in_are_refused_at_once(tmp_path: Path) -> None:
    with passing_on(tmp_path / "log", passed_on=2) as (server, upstream):
        threads, answers = asking(2, lambda: server.post("/invocations", json={}).status_code)
        for _ in threads:
            assert upstream.inside.acquire(timeout=10)
        refused = server.post("//invocations", json={})
        # Who needs no model server does not wait for those who do.
        assert server.post("/predict", json=AD, timeout=5).status_code == 200
        assert "demand_in_flight 2.0" in server.get("/metrics").text
        upstream.free.set()
        for thread in threads:
            thread.join()
        assert "demand_in_flight 0.0" in server.get("/metrics").text
        assert server.post("/invocations", data=b"x" * 90_000).text == "90000"
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["detail"].startswith("too many requests")
    assert answers == [200, 200]


def test_many_idle_connections_keep_nobody_out(server: Served) -> None:
    idle = [server.connect() for _ in range(700)]
    assert server.get("/health", timeout=5).status_code == 200
    for connection in idle:
        connection.close()
