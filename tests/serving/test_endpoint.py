from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from demand.errors import ConfigError, ServingError
from demand.monitoring import production
from demand.monitoring.production import observe
from demand.serving import client
from demand.serving.client import Endpoint
from tests.ads_factory import make_ads

AD = {"title": "Диван", "category_name": "Мебель"}
MLFLOW, FLASK = "/invocations", "/predict"


def mlflow_answer(ads: list[Any]) -> Any:
    return {"predictions": [0.5] * len(ads)}


def flask_answer(ads: list[Any]) -> Any:
    return [{"deal_probability": 0.25, "model_version": 3, "more": None} for _ in ads]


class Server:
    """A small HTTP server; a test says what it answers, and sees what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answer: Callable[[list[Any]], Any] | bytes | None = None
        self.close_after: int | None = None
        self.drip_s = 0.0
        self.asked: list[tuple[str, Any]] = []
        self.tokens: list[str | None] = []
        self.connections: set[int] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.connections.add(self.client_address[1])
                server.tokens.append(self.headers["Authorization"])
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((self.path, body))
                flask = FLASK in self.path
                ads = body if flask else body["dataframe_records"]
                answer = server.answer or (flask_answer if flask else mlflow_answer)
                content = answer if isinstance(answer, bytes) else json.dumps(answer(ads)).encode()
                self.send_response(server.status)
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                for i in range(len(content)) if server.drip_s else ():
                    self.wfile.write(content[i : i + 1])
                    time.sleep(server.drip_s)
                if not server.drip_s:
                    self.wfile.write(content)
                if server.close_after == len(server.asked):
                    # Without a word, as a server whose patience with idle connections ends.
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.root = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def test_mlflows_form_is_spoken_and_the_version_is_in_the_header(server: Server) -> None:
    server.headers = {"demand-model-version": "7"}
    with Endpoint(server.root + MLFLOW) as endpoint:
        reply = endpoint.ask([AD, AD])
    assert server.asked == [(MLFLOW, {"dataframe_records": [AD, AD]})]
    assert (reply.answers, reply.versions) == ([0.5, 0.5], ["7", "7"])
    assert 0.0 < reply.seconds < 5.0
    assert not endpoint.is_flask


@pytest.mark.parametrize("path", ["/predict", "/predict/", "/v1/predict", "/predict?trace=1"])
def test_a_path_that_ends_in_predict_is_asked_in_flasks_form(server: Server, path: str) -> None:
    with Endpoint(server.root + path) as endpoint:
        reply = endpoint.ask([AD])
    assert endpoint.is_flask
    assert server.asked == [(path, [AD])]
    assert (reply.answers, reply.versions) == ([0.25], ["3"])


@pytest.mark.parametrize("path", ["", "/"])
def test_without_a_path_it_is_invocations(server: Server, path: str) -> None:
    with Endpoint(server.root + path) as endpoint:
        assert endpoint.ask([AD]).versions == [None]
    assert endpoint.url == server.root + MLFLOW
    assert server.asked[0][0] == MLFLOW


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8790", "8790", "ftp://host/predict", "http://", "http:///predict"),
        *(
            "http://host:port/",
            "http://host:99999/",
            "http://a b/",
            "http://host/\n",
            "http://[::1",
        ),
        *("http://me:secret@host/", "http://хост/predict", "file:///etc/passwd"),
    ],
)
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(ServingError, match=r"is no URL of an endpoint \(.+\): write it like"):
        Endpoint(url)


def test_one_connection_is_kept(server: Server) -> None:
    with Endpoint(server.root) as endpoint:
        for _ in range(3):
            endpoint.ask([AD])
    assert len(server.connections) == 1


def test_a_kept_connection_that_was_closed_is_opened_again(server: Server) -> None:
    server.close_after = 1
    with Endpoint(server.root) as endpoint:
        endpoint.ask([AD])
        assert endpoint.ask([AD]).answers == [0.5]
    assert len(server.connections) == 2


def test_a_server_that_says_it_closes_is_asked_over_a_new_connection(server: Server) -> None:
    server.headers = {"Connection": "close"}
    with Endpoint(server.root) as endpoint:
        assert [endpoint.ask([AD]).answers for _ in range(2)] == [[0.5]] * 2
    assert len(server.connections) == 2


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_server_that_is_not_there_is_told_with_its_url_and_the_way_out() -> None:
    url = f"http://127.0.0.1:{free_port()}/invocations"
    with pytest.raises(ServingError, match=rf"{url} does not answer .*`demand serve`"):
        Endpoint(url).ask([AD])


def test_a_silent_server_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", answer_s=0.2)
        with pytest.raises(ServingError, match="does not answer"):
            endpoint.ask([AD])


def test_a_server_that_answers_drop_by_drop_is_given_up(server: Server) -> None:
    server.drip_s = 0.05
    endpoint = Endpoint(server.root, answer_s=0.2)
    with pytest.raises(ServingError, match=r"no whole answer within 0\.2 s"):
        endpoint.ask([AD] * 20)


def test_an_endless_answer_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_BYTES", 10)
    with pytest.raises(ServingError, match="answers with more than"):
        Endpoint(server.root).ask([AD] * 100)


def test_a_redirect_is_not_followed(server: Server) -> None:
    other = Server()
    server.status, server.headers = 307, {"Location": other.root + MLFLOW}
    with pytest.raises(ServingError, match=rf"redirects to '{other.root}/invocations'"):
        Endpoint(server.root).ask([AD])
    assert other.asked == []
    other.stop()


def test_a_proxy_of_the_environment_is_not_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Server()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.root)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert Endpoint(server.root).ask([AD]).answers == [0.5]
    assert proxy.asked == []
    proxy.stop()


@pytest.mark.parametrize("status", [400, 404, 413, 500, 503, 201])
def test_an_error_is_told_with_what_the_server_said(server: Server, status: int) -> None:
    server.status, server.answer = status, b'{"message":\n "no such field"}'
    with pytest.raises(ServingError, match=rf'/invocations answered {status}: .*"no such field"'):
        Endpoint(server.root).ask([AD])


def test_a_token_is_sent_where_one_is_given(server: Server) -> None:
    for token in (None, "s3cret"):
        with Endpoint(server.root + FLASK, token=token) as endpoint:
            endpoint.ask([AD])
    assert server.tokens == [None, "Bearer s3cret"]


@pytest.mark.parametrize("token", ["s3cret\n", "s3cret\r\nHost: a", "s3cret\0", "s3crеt"])
def test_a_token_that_no_header_may_have_is_told_by_its_variable(token: str) -> None:
    with pytest.raises(ConfigError, match="the token in DEMAND_API_TOKEN") as said:
        Endpoint("http://127.0.0.1:1", token=token)
    assert "s3cr" not in str(said.value)


@pytest.mark.parametrize(
    ("token", "words"), [(None, "wants a bearer token"), ("s3cret", "wants another bearer token")]
)
def test_a_wrong_token_is_told_by_its_variable(
    server: Server, token: str | None, words: str
) -> None:
    server.status, server.answer = 401, b"s3cret"
    with pytest.raises(ServingError, match=rf"answered 401, .*{words}.*DEMAND_API_TOKEN") as said:
        Endpoint(server.root, token=token).ask([AD])
    assert "s3cret" not in str(said.value)


@pytest.mark.parametrize("status", [200, 500])
def test_a_server_that_repeats_the_token_does_not_get_it_into_a_message(
    server: Server, status: int
) -> None:
    server.status, server.answer = status, b"no s3cret here"
    with pytest.raises(ServingError, match=r"no \[token\] here") as said:
        Endpoint(server.root, token="s3cret").ask([AD])
    assert "s3cret" not in str(said.value)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (MLFLOW, b"<html>"),
        (MLFLOW, b"[0.5]"),
        (MLFLOW, b'{"prediction": [0.5]}'),
        (MLFLOW, b'{"predictions": 0.5}'),
        (MLFLOW, b"[" * 100_000),
        (FLASK, b'{"predictions": [0.5]}'),
        (FLASK, b"[0.5]"),
        (FLASK, b'[{"probability": 0.5}]'),
    ],
)
def test_an_answer_of_another_form_is_told(server: Server, path: str, content: bytes) -> None:
    server.answer = content
    with pytest.raises(ServingError, match="did not answer with"):
        Endpoint(server.root + path).ask([AD])


@pytest.mark.parametrize("value", ["NaN", "-0.1", "1.5", "null", "true", '"0.5"', "[0.5]", "1e999"])
def test_what_is_no_probability_is_told_with_its_place(server: Server, value: str) -> None:
    server.answer = b'{"predictions": [0.5, %s]}' % value.encode()
    with pytest.raises(ServingError, match=r"ad 1 of a request with .*is no probability"):
        Endpoint(server.root).ask([AD, AD])


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_or_too_many_answers_are_told(server: Server, count: int) -> None:
    server.answer = json.dumps({"predictions": [0.5] * count}).encode()
    with pytest.raises(ServingError, match=f"gave {count} answers for 2 ads"):
        Endpoint(server.root).ask([AD, AD])


@pytest.mark.parametrize(
    ("version", "expected"), [("4", "4"), (4, "4"), (None, None), (True, None), ([], None)]
)
def test_a_version_is_a_text_or_unknown(
    server: Server, version: object, expected: str | None
) -> None:
    server.answer = lambda ads: [{"deal_probability": 0, "model_version": version} for _ in ads]
    assert Endpoint(server.root + FLASK).ask([AD]).versions == [expected]


ADS = make_ads(25, seed=3)


@pytest.fixture
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(production, "ADS_PER_REQUEST", 10)


@pytest.mark.usefixtures("small_requests")
def test_all_ads_are_sent_in_order_and_neither_their_target_nor_their_id(server: Server) -> None:
    ads = ADS.assign(price=np.arange(25.0))
    server.answer = lambda sent: {"predictions": [ad["price"] / 100 for ad in sent]}
    found = observe(ads, Endpoint(server.root), lambda: "")
    assert [len(body["dataframe_records"]) for _, body in server.asked] == [10, 10, 5]
    np.testing.assert_allclose(found.answers, np.arange(25) / 100)
    assert (len(found.seconds), len(found.versions)) == (3, 25)
    sent = server.asked[0][1]["dataframe_records"][0]
    assert sent.keys().isdisjoint({"item_id", "deal_probability"})
    assert sent["activation_date"] == str(ads["activation_date"][0])[:10]


@pytest.mark.usefixtures("small_requests")
def test_a_server_that_moved_is_followed(server: Server) -> None:
    old, new = Server(), server
    old.headers, new.headers = {"demand-model-version": "1"}, {"demand-model-version": "2"}

    def last(ads: list[Any]) -> Any:
        if len(old.asked) > 1:
            old.status = 503
        return mlflow_answer(ads)

    old.answer = last
    found = observe(ADS, Endpoint(old.root), lambda: new.root)
    assert found.versions == ("1",) * 10 + ("2",) * 15
    assert found.endpoint == new.root + MLFLOW
    old.stop()


def test_a_server_that_fails_and_did_not_move_is_an_error(server: Server) -> None:
    server.status = 500
    endpoint = Endpoint(server.root)
    with pytest.raises(ServingError, match="answered 500"):
        observe(ADS, endpoint, lambda: endpoint.url)
