"""What the API passes on, from server to server; tests/serving/http has it under load."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.exceptions import HTTPException

from demand.serving.api.model_provider import ModelServerProxy
from tests.serving.test_endpoint import Server

BODY = b'{"dataframe_records": [{"title": "\xd0\xb4"}]}'


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def ask(proxy: ModelServerProxy) -> bytes:
    return proxy.ask(BODY, {"Content-Type": "application/json"}).content


def test_bodies_are_passed_on_as_they_are_over_one_connection(server: Server) -> None:
    server.answer = b'{"predictions":  [0.5]}'
    server.headers = {"Content-Encoding": "gzip"}  # which it is not
    proxy = ModelServerProxy(lambda: server.root)
    assert [ask(proxy) for _ in range(3)] == [server.answer] * 3
    assert [body for _, body in server.asked] == [{"dataframe_records": [{"title": "д"}]}] * 3
    assert len(server.connections) == 1


@pytest.mark.parametrize("status", [400, 503])
def test_an_error_is_an_answer(server: Server, status: int) -> None:
    server.status = status
    proxy = ModelServerProxy(lambda: server.root)
    assert proxy.ask(BODY, "").status == status
    assert len(server.asked) == 1


def test_the_server_that_has_taken_over_is_asked(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        old = f"http://127.0.0.1:{gone.getsockname()[1]}"
    addresses = [old, None, server.root]
    proxy = ModelServerProxy(lambda: addresses.pop(0))
    assert b"predictions" in ask(proxy)


def test_patience_has_an_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = f"http://127.0.0.1:{gone.getsockname()[1]}"
    with pytest.raises(HTTPException, match="the model server does not answer"):
        ask(ModelServerProxy(lambda: nobody, patience_s=0.1))
    with pytest.raises(HTTPException, match="no model server is running: run `demand serve`"):
        ask(ModelServerProxy(lambda: None, patience_s=0.1))


def test_many_threads_ask_at_once(server: Server) -> None:
    proxy = ModelServerProxy(lambda: server.root)
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(proxy))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
