"""What stands before Flask, asked through sockets: admission, bodies, bounds, and patience."""

from __future__ import annotations

import errno
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
import uvicorn
from prometheus_client import CollectorRegistry, Gauge

from demand.serving.api import accepting, connections
from demand.serving.api.accepting import Server
from demand.serving.api.application import create_app
from demand.serving.api.champions import Serving
from demand.serving.api.front import Front
from demand.serving.api.settings import ApiSettings
from demand.serving.api.telemetry import Telemetry
from demand.serving.api.upstream import Answer, ModelServerUpstream
from demand.serving.api.workers import EventLoopWorker
from demand.serving.api.wsgi import Environ
from demand.serving.listening import listen
from tests.tiny_model import tiny_predictor

AD = {"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}
LIMITS = ApiSettings(body_bytes=100_000, ads=1000, in_flight=2, passed_on=2)


class Held:
    """One model."""

    problem: str | None = None

    def __init__(self) -> None:
        self.serving: Serving | None = Serving(tiny_predictor(), "7", "", {}, "now")


class Upstream(ModelServerUpstream):
    """A model server that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.inside, self.free = threading.Semaphore(0), threading.Event()

    def ask(self, method: str, path: str, body: bytes | None, content_type: str) -> Answer:
        """Wait, and answer how long the body was."""
        self.inside.release()
        assert self.free.wait(20)
        return Answer(200, {"content-type": "text/plain"}, str(len(body or b"")).encode())


class Exhausted:
    """A listening socket in a process that has no descriptor left, for some tries."""

    def __init__(self, listener: socket.socket, tries: int) -> None:
        self._listener, self.tries = listener, tries

    def accept(self) -> Any:
        self.tries -= 1
        if self.tries >= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


@contextmanager
def served(app: Any, wrap: Callable[[socket.socket], Any] = lambda each: each) -> Iterator[int]:
    """Serve an ASGI application as the workers do; yield the port."""
    config = uvicorn.Config(app, log_config=None, **EventLoopWorker.CONFIG_KWARGS)
    server = Server(config)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [wrap(listener)]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def gauge() -> Gauge:
    return Gauge("in_flight", "x", registry=CollectorRegistry())


@contextmanager
def api(settings: ApiSettings = LIMITS, upstream: ModelServerUpstream | None = None) -> Any:
    """Serve the API; yield its URL."""
    held = Held()
    telemetry = Telemetry(held)
    app = create_app(held, upstream, settings, telemetry)
    with served(Front(app.wsgi_app, settings, telemetry.in_flight)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with api() as address:
        yield address


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20)


def post(url: str, body: Any) -> requests.Response:
    """Send a body to ``/predict``, in chunks where it is a generator."""
    headers = {"Content-Type": "application/json"}
    return requests.post(f"{url}/predict", body, headers=headers, timeout=10)


def everything(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def head(length: int | None, path: str = "/predict", more: str = "") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    lines += [more] if more else []
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_body_in_chunks_is_answered_like_a_whole_one(url: str) -> None:
    body = json.dumps([AD] * 300).encode()
    whole = post(url, body)
    assert whole.status_code == 200
    assert (
        post(url, (body[first : first + 997] for first in range(0, len(body), 997))).json()
        == whole.json()
    )


def test_a_body_that_is_declared_too_long_is_refused_before_it_comes(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(head(LIMITS.body_bytes + 1))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_grows_too_long_is_refused(url: str) -> None:
    endless = (b"[" + b" " * 9_999 for _ in range(11))
    found = post(url, endless)
    assert found.status_code == 413
    assert found.json()["status"] == 413


def test_a_connection_is_kept_over_a_refusal(url: str) -> None:
    with requests.Session() as session:
        session.headers["Content-Type"] = "application/json"
        refused = session.post(f"{url}/predict", data=b"x" * (LIMITS.body_bytes + 1))
        assert refused.status_code == 413
        assert session.post(f"{url}/predict", json=AD).status_code == 200


def test_requests_that_are_sent_together_are_answered_in_their_order(url: str) -> None:
    bodies = [json.dumps(AD).encode(), b"{"]
    with connect(url) as connection:
        for body in bodies:
            connection.sendall(head(len(body)) + body)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        found = everything(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+)", found) == [b"200", b"400", b"200"]


def test_more_than_are_let_in_are_refused_at_once() -> None:
    upstream = Upstream()
    with api(upstream=upstream) as url:
        answers: list[int] = []
        waiting = [
            threading.Thread(
                target=lambda: answers.append(
                    requests.post(f"{url}/invocations", json={}, timeout=30).status_code
                )
            )
            for _ in range(2)
        ]
        for thread in waiting:
            thread.start()
            assert upstream.inside.acquire(timeout=10)
        refused = requests.post(f"{url}/invocations", json={}, timeout=5)
        # Who needs no model server does not wait for those who do.
        assert requests.post(f"{url}/predict", json=AD, timeout=5).status_code == 200
        assert "demand_in_flight 2.0" in requests.get(f"{url}/metrics", timeout=5).text
        upstream.free.set()
        for thread in waiting:
            thread.join()
        assert "demand_in_flight 0.0" in requests.get(f"{url}/metrics", timeout=5).text
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["detail"].startswith("too many requests")
    assert answers == [200, 200]


def test_a_large_body_is_passed_on_whole() -> None:
    upstream = Upstream()
    upstream.free.set()
    with api(upstream=upstream) as url:
        assert requests.post(f"{url}/invocations", data=b"x" * 90_000, timeout=10).text == "90000"


def test_bodies_that_are_on_their_way_have_a_bound() -> None:
    """Clients that each send half of a large body, and then the others hear no."""
    settings = ApiSettings(body_bytes=100_000)
    half = b"[" + b" " * 70_000
    with api(settings) as url:
        slow = [connect(url) for _ in range(11)]
        for connection in slow:
            connection.sendall(head(100_000) + half)
        deadline = time.monotonic() + 10
        with connect(url) as one_more:
            one_more.sendall(head(100_000) + half)
            assert one_more.recv(65536).startswith(b"HTTP/1.1 503 ")
        for connection in slow:
            connection.close()
        body = json.dumps([AD] * 300).encode()
        while post(url, body).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_without_the_token_a_body_is_not_even_read() -> None:
    with api(ApiSettings(token="secret")) as url, connect(url) as connection:
        connection.sendall(head(1000))
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_those_without_the_token_take_no_place_from_those_with_it() -> None:
    upstream = Upstream()
    with api(ApiSettings(token="secret", passed_on=1), upstream) as url:
        for _ in range(3):
            assert requests.post(f"{url}/invocations", json={}, timeout=5).status_code == 401
        assert not upstream.inside.acquire(blocking=False)


@pytest.mark.parametrize("path", ["//invocations", "/%2Finvocations", "///invocations"])
def test_a_path_with_more_slashes_is_the_same(path: str) -> None:
    """Flask takes it for the same, too: unlimited it would wait on the event loop."""
    upstream = Upstream()
    with api(ApiSettings(passed_on=1), upstream) as url, connect(url) as connection:
        connection.sendall(head(2, path) + b"{}")
        assert upstream.inside.acquire(timeout=10)
        assert requests.post(f"{url}/invocations", json={}, timeout=5).status_code == 503
        upstream.free.set()
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_requests_that_are_sent_ahead_have_a_bound(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 90)
        found = b""
        while found.count(b"HTTP/1.1 200 ") < 90:
            found += connection.recv(65536)
    far_too_many = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 500_000
    with connect(url) as connection, pytest.raises(OSError, match=r"reset|Broken pipe"):
        connection.sendall(far_too_many)


def test_what_follows_a_body_in_chunks_is_no_header(url: str) -> None:
    body = json.dumps(AD).encode()
    chunked = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n" % len(body) + body + b"\r\n0\r\nContent-Type: application/json\r\n\r\n"
    with connect(url) as connection:
        connection.sendall(chunked)
        assert connection.recv(65536).startswith(b"HTTP/1.1 415 ")


def test_a_client_that_sends_no_more_is_answered(url: str) -> None:
    body = json.dumps(AD).encode()
    with connect(url) as connection:
        connection.sendall(head(len(body)) + body)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).startswith(b"HTTP/1.1 200 ")


def test_an_upgrade_is_left_out_or_refused(url: str) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: h2c"
    with connect(url) as connection:
        connection.sendall(f"GET /health HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n\r\n".encode())
        assert everything(connection).startswith(b"HTTP/1.1 200 ")
    smuggled = b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"
    with connect(url) as connection:
        connection.sendall(head(len(smuggled), more=upgrade))
        time.sleep(0.1)
        connection.sendall(smuggled)
        found = everything(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+)", found) == [b"400"]


def test_what_is_no_http_is_a_problem_too(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"\x16\x03\x01 this is TLS\r\n\r\n")
        found, _, body = everything(connection).partition(b"\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in found
    assert json.loads(body)["status"] == 400


def test_a_problem_is_not_taken_for_the_answer_before_it() -> None:
    upstream = Upstream()
    with api(upstream=upstream) as url, connect(url) as connection:
        connection.sendall(head(2, "/invocations") + b"{}garbage\r\n\r\n")
        assert everything(connection) == b""
        upstream.free.set()


def test_a_head_without_end_is_refused(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError, match=r"reset|Broken pipe"):  # noqa: PT012 - whichever is first
            for _ in range(2000):
                connection.sendall(b"X-A: " + b"a" * 1000 + b"\r\n")
                time.sleep(0.001)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (
        ("_SILENT_S", 0.3),
        ("_HEAD_S", 0.3),
        ("_DISCARD_S", 0.3),
        ("_UNREAD_S", 0.3),
        ("_LOOK_S", 0.1),
    ):
        monkeypatch.setattr(connections, name, seconds)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"POST /predict HT", b"HTTP/1.1 408 "),
        (b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET", b"HTTP/1.1 200 "),
        (head(100) + b"{", b"HTTP/1.1 408 "),
        (head(None, more="Transfer-Encoding: chunked") + b"5\r\n{", b"HTTP/1.1 408 "),
        (head(LIMITS.body_bytes + 1) + b"{", b"HTTP/1.1 413 "),
    ],
    ids=["nothing", "an empty line", "half a line", "half a second", "body", "chunk", "refused"],
)
def test_a_request_that_stops_coming_is_ended(sent: bytes, answer: bytes) -> None:
    with api() as url, connect(url) as connection:
        begun = time.monotonic()
        connection.sendall(sent)
        found = bytearray()
        try:
            while part := connection.recv(65536):
                found += part
        except ConnectionResetError:
            pass
        assert time.monotonic() - begun < 10
        assert bytes(found).startswith(answer)
        assert bool(found) == bool(answer)


def answer_much(environ: Environ, start: Callable[..., Any]) -> list[bytes]:
    start("200 OK", [("Content-Length", str(2**26))])
    return [b"x" * 2**26]


@pytest.mark.usefixtures("hasty")
def test_a_client_that_does_not_read_is_let_go() -> None:
    app = Front(answer_much, LIMITS, gauge())
    with served(app) as port, connect(f"http://127.0.0.1:{port}") as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(1.5)
        found = 0
        try:
            while part := connection.recv(2**20):
                found += len(part)
        except ConnectionResetError:
            pass
        assert found < 2**26


def test_where_no_descriptor_is_left_it_tries_again_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "_PAUSE_S", 0.2)

    def app(_: Environ, start: Callable[..., Any]) -> list[bytes]:
        start("204 No Content", [])
        return []

    begun = time.monotonic()
    with served(Front(app, LIMITS, gauge()), lambda each: Exhausted(each, 3)) as port:
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 204
    assert time.monotonic() - begun > 0.6
    assert [record.levelname for record in caplog.records if "Too many" in record.message] == (
        ["WARNING"] * 3
    )


def test_the_environment_is_that_of_wsgi() -> None:
    seen: list[Environ] = []

    def app(environ: Environ, start: Callable[..., Any]) -> list[bytes]:
        seen.append(environ)
        start("204 No Content", [])
        return []

    with served(Front(app, LIMITS, gauge())) as port:
        headers = {"X_Request_Id": "a", "X-Named": "б".encode(), "Accept": "a/b"}
        address = f"http://127.0.0.1:{port}/%D1%8F/a b?q=%20"
        assert requests.put(address, "тело".encode(), headers=headers, timeout=5).ok
    (environ,) = seen
    assert environ["REQUEST_METHOD"] == "PUT"
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/я/a b"
    assert environ["QUERY_STRING"] == "q=%20"
    assert environ["CONTENT_LENGTH"] == "8"
    assert environ["wsgi.input"].read().decode() == "тело"
    assert environ["HTTP_X_NAMED"].encode("latin-1").decode() == "б"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("127.0.0.1", str(port))
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert "HTTP_X_REQUEST_ID" not in environ
