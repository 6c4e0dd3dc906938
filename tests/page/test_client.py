from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from demand.errors import ConfigError
from demand.page import api
from demand.page.api import Answer, Client, Source, Trouble
from demand.page.server import read_links

FULL = {
    "deal_probability": 0.5,
    "interval": {"low": 0.1, "high": 0.9, "coverage": 0.8},
    "percentile": 0.7,
    "model_version": "4",
}


class Fake:
    """An API whose answers are set by route; a list is answered one by one, then repeated."""

    def __init__(self) -> None:
        self.replies: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.delay_s = 0.0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fake.asked.append((self.path, dict(self.headers), body))
                time.sleep(fake.delay_s)
                replies = fake.replies.get(self.path, [(404, {"detail": "no such route"})])
                status, value = replies.pop(0) if len(replies) > 1 else replies[0]
                text = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("X-Request-Id", "r-1")
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def trouble(client: Client) -> Trouble:
    with pytest.raises(Trouble) as caught:
        client.answers([{"title": "a", "category_name": "b"}], "flask")
    return caught.value


def test_it_finds_out_what_answers_there(fake: Fake) -> None:
    client = Client(fake.url)
    fake.replies = {"/info": [(200, {"model_version": "4"})]}
    assert client.kind() == ("flask", "4")
    fake.replies = {"/info": [(404, b"")], "/ping": [(200, b"\n")]}
    assert client.kind() == ("mlflow", None)


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        ({"/info": [(200, {"model_version": None, "problem": "none yet"})]}, "no_model"),
        ({"/info": [(401, {"detail": "token"})]}, "denied"),
        ({"/info": [(404, b"")], "/ping": [(404, b"")]}, "strange"),
        ({"/info": [(500, b"")]}, "busy"),
    ],
)
def test_what_is_wrong_with_it_has_a_name(
    fake: Fake, replies: dict[str, list[tuple[int, Any]]], kind: str
) -> None:
    fake.replies = replies
    with pytest.raises(Trouble) as caught:
        Client(fake.url).kind()
    assert caught.value.kind == kind


def test_answers_of_both_kinds_are_read(fake: Fake) -> None:
    fake.replies = {
        "/predict": [(200, [FULL, {**FULL, "interval": None, "percentile": None}])],
        "/invocations": [(200, {"predictions": [0.25]})],
    }
    client = Client(fake.url)
    whole, bare = client.answers([{}, {}], "flask", own=[0])
    (_, headers, _) = fake.asked[-1]
    assert {name.lower(): value for name, value in headers.items()}["demand-probe"] == "except=0"
    assert whole == Answer(0.5, 0.1, 0.9, 0.8, 0.7, "4", "r-1")
    assert (bare.low, bare.percentile) == (None, None)
    assert client.answers([{"title": "Ёж"}], "mlflow") == [Answer(0.25)]
    assert json.loads(fake.asked[-1][2]) == {"dataframe_records": [{"title": "Ёж"}]}


def test_a_refused_ad_is_named_with_its_field(fake: Fake) -> None:
    problem = {"detail": "price must lie between", "field": "price", "row": 3}
    fake.replies = {"/predict": [(422, problem)]}
    found = trouble(Client(fake.url))
    assert (found.kind, found.field, found.row) == ("refused", "price", 3)
    assert found.detail == "price must lie between"


def test_a_busy_api_is_asked_again(fake: Fake) -> None:
    fake.replies = {"/predict": [(503, {}), (200, [FULL])]}
    assert Client(fake.url).answers([{}], "flask")[0].probability == 0.5
    assert len(fake.asked) == 2


def test_one_that_stays_busy_is_said_to_be(fake: Fake) -> None:
    fake.replies = {"/predict": [(503, {"detail": "too many"})]}
    assert trouble(Client(fake.url)).kind == "busy"


def test_a_slow_api_is_not_waited_for_for_ever(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "ANSWER_S", 0.2)
    fake.delay_s = 1.0
    begun = time.monotonic()
    assert trouble(Client(fake.url)).kind == "slow"
    assert time.monotonic() - begun < 0.9


def test_an_api_elsewhere_is_asked_through_a_proxy_and_one_here_is_not(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, fake.url)
    fake.replies["http://ads.example/card"] = fake.replies["/card"] = [(200, {"text": "a card"})]
    assert Client("ads.example").facts("/card") == {"text": "a card"}
    assert Client(fake.url).facts("/card") == {"text": "a card"}
    assert [path for path, _, _ in fake.asked] == ["http://ads.example/card", "/card"]


def test_nobody_there_is_down(fake: Fake) -> None:
    client = Client(fake.url)
    fake.replies = {"/predict": [(200, [FULL])]}
    client.answers([{}], "flask")
    fake.http.shutdown()
    fake.http.server_close()
    closed = Client("http://127.0.0.1:1")
    assert trouble(closed).kind == "down"


@pytest.mark.parametrize("answer", [b"<html>", [], {"a": 1}, [{"deal_probability": "x"}], [{}]])
def test_what_is_no_answer_is_strange(fake: Fake, answer: Any) -> None:
    fake.replies = {"/predict": [(200, answer)]}
    assert trouble(Client(fake.url)).kind == "strange"


def test_the_token_goes_to_the_api_and_into_no_message(fake: Fake) -> None:
    fake.replies = {"/predict": [(401, {"detail": "wants a token"})]}
    found = trouble(Client(fake.url, "s3cret"))
    assert fake.asked[0][1]["Authorization"] == "Bearer s3cret"
    assert found.kind == "denied"
    assert "s3cret" not in str(found)


@pytest.mark.parametrize("token", ["секрет-1", "s3c\nret", "s3cr\x00t", " s3cret", "s3cret "])
def test_a_token_that_no_header_may_have_is_refused_and_not_quoted(token: str) -> None:
    with pytest.raises(ConfigError, match="DEMAND_API_TOKEN") as caught:
        Client("http://127.0.0.1:1", token)
    assert token.strip() not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://h/api/predict", "https://h/api"),
        ("http://h:8790/invocations", "http://h:8790"),
    ],
)
def test_a_route_at_the_urls_end_is_left_out(url: str, root: str) -> None:
    assert Client(url).root == root


@pytest.mark.parametrize("url", ["", "ftp://h", "http://", "http://h:x", "http://u:p@h"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no URL of an API"):
        Client(url)


def test_links_have_a_name_and_a_url_of_a_site() -> None:
    assert read_links(["A B=http://h/?x=1"]) == (("A B", "http://h/?x=1"),)
    for wrong in ("http://h", "A=javascript:alert(1)", "=http://h"):
        with pytest.raises(ConfigError, match="no link"):
            read_links([wrong])


def test_facts_are_fetched_once_a_version_and_kept_through_an_outage(fake: Fake) -> None:
    fake.replies = {
        "/info": [(200, {"model_version": "1"})],
        "/market": [(200, {"categories": []})],
        "/card": [(200, {"demo": True})],
    }
    source = Source(Client(fake.url))
    first = source.snapshot()
    assert source.snapshot(fresh=True).revision == first.revision == 1
    assert [path for path, _, _ in fake.asked].count("/market") == 1
    fake.replies["/info"] = [(503, {})]
    away = source.snapshot(fresh=True)
    assert (away.trouble, away.card) == ("busy", {"demo": True})
    fake.replies["/info"] = [(200, {"model_version": "2"})]
    assert source.snapshot(fresh=True).revision == 2


def test_a_model_without_facts_is_no_trouble(fake: Fake) -> None:
    fake.replies = {"/info": [(200, {"model_version": "1"})]}
    found = Source(Client(fake.url)).snapshot()
    assert (found.trouble, found.statistics, found.card) == (None, None, None)


def test_many_who_look_at_once_ask_once(fake: Fake) -> None:
    fake.replies = {"/info": [(200, {"model_version": "1"})]}
    source = Source(Client(fake.url))
    looking = [threading.Thread(target=source.snapshot) for _ in range(20)]
    for thread in looking:
        thread.start()
    for thread in looking:
        thread.join()
    assert [path for path, _, _ in fake.asked].count("/info") == 1
