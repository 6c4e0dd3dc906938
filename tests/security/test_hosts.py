"""Pages of other sites that ask a server on this machine: by its name, or by theirs."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from demand.registry.packaging import EXAMPLE_ADS, save_model
from demand.schema.records import frame_from_records
from demand.serving.http.middleware import Hosts
from tests.served import Served, api, model_server
from tests.serving.http.test_server import statuses
from tests.serving.standin import LOADER, Standin

ALL = "0.0.0.0"  # noqa: S104
OURS = ["localhost", "127.0.0.1", "[::1]", "127.0.0.2", "LocalHost", "api.example", "API.EXAMPLE"]
FOREIGN = [
    "",
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil-localhost",
    "127.0.0.1@evil.example",
    "evil.example@127.0.0.1",
    "evil.example#@127.0.0.1",
    "127.0.0.1/evil.example",
    "127.0.0.1?evil.example",
    "127.0.0.1#evil.example",
    "127.0.0.1 evil.example",
    "127.0.0.1,evil.example",
    "127.0.0.1\tevil.example",
    "127.0.0.1:80:90",
    "127.0.0.1:x",
    "127.0.0.1:999999",
    "127.0.0.1.",
    "localhost.",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "[::1",
    "::1",
    "[::1]evil.example",
    "[::1%lo]",
    "[evil.example]",
    "http://127.0.0.1",
    "l\u043ecalhost",
    "api.example.evil.example",
]
ADDRESSES = ["10.0.0.1", "192.168.1.20", "[2001:db8::1]", "8.8.8.8"]


@pytest.mark.parametrize("port", ["", ":80", ":65535"])
@pytest.mark.parametrize("host", OURS)
def test_a_server_on_loopback_answers_to_its_names(host: str, port: str) -> None:
    assert Hosts("127.0.0.1", ("Api.Example:8000",)).knows(host + port)


@pytest.mark.parametrize("host", [*FOREIGN, *ADDRESSES])
def test_and_to_no_other(host: str) -> None:
    for bound in ("127.0.0.1", "::1", "localhost"):
        assert not Hosts(bound, ("api.example",)).knows(host)


@pytest.mark.parametrize("host", [*OURS, *ADDRESSES, socket.gethostname()])
def test_a_server_that_is_open_to_a_network_answers_to_addresses(host: str) -> None:
    assert Hosts(ALL, ("api.example",)).knows(host)


@pytest.mark.parametrize("host", FOREIGN)
def test_but_not_to_foreign_names(host: str) -> None:
    for bound in (ALL, "::", "192.168.1.20", "server.example"):
        assert not Hosts(bound, ("api.example",)).knows(host)


def test_a_server_answers_to_the_name_that_it_was_told_to_listen_on() -> None:
    assert Hosts("Server.Example").knows("server.example:8000")


@pytest.mark.parametrize(
    ("origin", "trusted"),
    [
        ("http://localhost:8000", True),
        ("https://LOCALHOST:8000", True),
        ("https://shop.example", True),
        ("http://localhost", False),
        ("http://localhost:8001", False),
        ("http://evil.example", False),
        ("http://localhost:8000.evil.example", False),
        ("http://evil.example/localhost:8000", False),
        ("https://shop.example.evil.example", False),
        ("http://shop.example", False),
        ("null", False),
        ("localhost:8000", False),
        ("http://[", False),
    ],
)
def test_only_pages_of_its_own_and_of_named_sites_may_ask(origin: str, trusted: bool) -> None:
    hosts = Hosts("127.0.0.1", origins=("https://shop.example",))
    assert hosts.trusts(origin, "localhost:8000") is trusted


@pytest.fixture(scope="module", params=["api", "model server"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    if request.param == "api":
        with api(folder / "log", allowed_hosts=["api.example"]) as server:
            yield server
        return
    save_model(Standin(), folder / "m", frame_from_records(EXAMPLE_ADS), loader_module=LOADER)
    with model_server(folder / "log", folder / "m", named=["api.example"]) as server:
        yield server


def asked(server: Served, *headers: str, line: str = "GET /card HTTP/1.1") -> tuple[int, str]:
    lines = [line, *headers, "Connection: close", "", ""]
    head, _, body = server.send("\r\n".join(lines).encode("latin-1")).partition(b"\r\n\r\n")
    (status,) = statuses(head)
    told = json.loads(body)
    assert "Traceback" not in body.decode()
    return status, told.get("detail") or told.get("message")


@pytest.mark.e2e
class TestARealServer:
    ANSWERED = 404  # its model was packaged without a card

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:80", "api.example:443"])
    def test_answers_who_asks_by_its_name(self, server: Served, host: str) -> None:
        assert asked(server, f"Host: {host}")[0] == self.ANSWERED

    @pytest.mark.parametrize("path", ["/card", "/ping", "/health", "/predict", "/", "/nothing"])
    def test_refuses_other_names_on_every_path(self, server: Served, path: str) -> None:
        status, told = asked(server, "Host: evil.example:80", line=f"GET {path} HTTP/1.1")
        assert status == 400
        assert "--allow-host" in told

    def test_refuses_a_request_without_a_name_or_with_two(self, server: Served) -> None:
        assert asked(server)[0] == 400
        assert asked(server, "Host: localhost", "Host: evil.example")[0] == 400
        assert asked(server, "Host: evil.example", "Host: localhost")[0] == 400
        assert asked(server, line="GET /card HTTP/1.0")[0] == 400

    def test_judges_the_header_where_the_target_has_a_name_too(self, server: Served) -> None:
        line = "GET http://localhost/card HTTP/1.1"
        assert asked(server, "Host: evil.example", line=line)[0] == 400

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[", "x" * 10_000])
    def test_refuses_pages_of_other_sites(self, server: Served, origin: str) -> None:
        status, told = asked(server, "Host: localhost", f"Origin: {origin}")
        assert status == 403
        assert len(told) < 300

    def test_answers_its_own_pages(self, server: Served) -> None:
        host = f"localhost:{server.port}"
        assert asked(server, f"Host: {host}", f"Origin: http://{host}")[0] == self.ANSWERED


@pytest.mark.e2e
def test_a_name_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"error: 'http://a' is no name of a host"),
        api(tmp_path / "log", allowed_hosts=["http://a"]),
    ):
        pass
