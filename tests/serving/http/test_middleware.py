"""Limits of requests without a server; tests/serving/http/test_server.py has real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from demand.errors import ConfigError
from demand.serving.http.middleware import Hosts, RequestLimits, Timeouts, probe_rows
from demand.serving.model_server import error_answer

Message = dict[str, Any]
HOST = (b"host", b"localhost")


def part(body: bytes, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class Echo:
    """Answers with the body, which it wants whole."""

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def limits(app: Any, **more: Any) -> RequestLimits:
    chosen = {"body_bytes": lambda _: 100, "refusal": error_answer, "together_bytes": 150, **more}
    return RequestLimits(app, Hosts("127.0.0.1"), **chosen)


def asked(
    served: Any, parts: Sequence[Message], headers: Sequence[tuple[bytes, bytes]] = (HOST,)
) -> list[Message]:
    """Return what is sent in answer to a request."""
    sent: list[Message] = []
    coming = iter(parts)

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": list(headers), "path": "/", "method": "POST"}
    asyncio.run(served(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, []),
        ("all", [0, 1, 2, 3]),
        ("except=0", [1, 2, 3]),
        ("except=0,2", [1, 3]),
        ("except=9", [0, 1, 2, 3]),
        ("²", [0, 1, 2, 3]),
    ],
)
def test_the_header_says_which_rows_are_probes(header: str | None, expected: list[int]) -> None:
    assert list(probe_rows(header, 4)) == expected


def test_a_body_within_the_limits_is_answered() -> None:
    start, body = asked(limits(Echo()), [part(b"a" * 60, True), part(b"a" * 40)])
    assert (start["status"], body["body"]) == (200, b"a" * 100)


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([part(b"a" * 60, True), part(b"a" * 41)], 413),
        ([part(b"a" * 60, True), {"type": "http.disconnect"}], 400),
    ],
)
def test_a_body_beyond_them_is_refused(parts: list[Message], status: int) -> None:
    start, _ = asked(limits(Echo()), parts)
    assert start["status"] == status


def test_room_that_a_request_took_is_given_back() -> None:
    served = limits(Echo())
    for _ in range(3):
        assert asked(served, [part(b"a" * 100)])[0]["status"] == 200
        asked(served, [part(b"a" * 60, True), part(b"a" * 60, True)])


def test_an_answer_that_has_begun_is_not_taken_back() -> None:
    async def answers_early(_: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"so far"})

    sent = asked(limits(answers_early), [part(b"a" * 90, True), part(b"a" * 90, True)])
    assert [each.get("status", each.get("body")) for each in sent] == [200, b"so far"]


def test_an_error_of_the_application_is_not_hidden() -> None:
    async def broken(*_: Any) -> None:
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        asked(limits(broken), [])


@pytest.mark.parametrize("whole", [True, False])
def test_a_large_answer_comes_in_parts_and_whole(whole: bool) -> None:
    async def much(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(10**6), "more_body": not whole})
        if not whole:
            await send({"type": "http.response.body", "body": b"end"})

    _, *parts = asked(limits(much), [])
    assert len(b"".join(each["body"] for each in parts)) == 10**6 + (0 if whole else 3)
    assert [each.get("more_body", False) for each in parts] == [True] * (len(parts) - 1) + [False]


def test_an_application_hears_of_a_client_that_does_not_read() -> None:
    heard: list[str] = []

    async def much(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await send({"type": "http.response.body", "body": bytes(10**6)})
        except OSError as error:
            heard.append(str(error))
            raise

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)

    scope = {"type": "http", "headers": [HOST], "path": "/"}
    served = limits(much, timeouts=Timeouts(unread_s=0.01))
    asyncio.run(served(scope, None, send))  # type: ignore[arg-type]
    assert heard == ["the client does not read its answer"]


@pytest.mark.parametrize("name", ["", "http://a", "a/b", "a b", "u@a", "a:b", "[::1", "a:123456"])
def test_what_is_no_name_of_a_host_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a host"):
        Hosts("127.0.0.1", (name,))
