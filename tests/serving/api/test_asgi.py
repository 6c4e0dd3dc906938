from __future__ import annotations

from typing import Any

import pytest

from demand.serving.api.application import environment


def scope(**more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", "8000"),
        "client": ("127.0.0.1", "50000"),
        "scheme": "http",
        "method": "PUT",
        "path": "/",
        "query_string": b"",
        "headers": [],
        **more,
    }


def test_the_environment_is_that_of_wsgi() -> None:
    headers = [(b"x-named", "б".encode()), (b"accept", b"a/b"), (b"content-type", b" c/d\t")]
    found = environment(scope(path="/я/a b", query_string=b"q=%20", headers=headers))
    assert found["REQUEST_METHOD"] == "PUT"
    assert found["PATH_INFO"].encode("latin-1").decode() == "/я/a b"
    assert found["QUERY_STRING"] == "q=%20"
    assert found["HTTP_X_NAMED"].encode("latin-1").decode() == "б"
    assert (found["HTTP_ACCEPT"], found["CONTENT_TYPE"]) == ("a/b", "c/d")
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("127.0.0.1", "8000")
    assert (found["SERVER_PROTOCOL"], found["REMOTE_ADDR"]) == ("HTTP/1.1", "127.0.0.1")


def test_a_header_that_comes_twice_is_one_list() -> None:
    found = environment(scope(headers=[(b"x-a", b"1"), (b"x-a", b"2")]))
    assert found["HTTP_X_A"] == "1,2"


@pytest.mark.parametrize("name", [b"x_request_id", b"transfer-encoding", b"content_length"])
def test_headers_that_would_be_taken_for_others_are_left_out(name: bytes) -> None:
    assert environment(scope(headers=[(name, b"a")])).keys() == environment(scope()).keys()


@pytest.mark.parametrize("path", ["predict", "/predict", "//predict", "///predict"])
def test_a_path_begins_with_one_slash(path: str) -> None:
    assert environment(scope(path=path))["PATH_INFO"] == "/predict"
