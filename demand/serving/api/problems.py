"""Answers other than 2xx as problems in JSON (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus

from flask import Response
from werkzeug.exceptions import HTTPException

RETRY_AFTER_S = 1


class Problem(Exception):
    """An answer that is not the one that was hoped for.

    Parameters
    ----------
    status
        HTTP status.
    detail
        One sentence for the caller: what is wrong, and the way out.
    more
        Further members, such as ``field`` and ``row``; those that are None are left out.
    """

    def __init__(self, status: int, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.more = {name: value for name, value in more.items() if value is not None}

    def response(self) -> Response:
        """Return it as ``application/problem+json``."""
        members = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        text = json.dumps(members, ensure_ascii=False).encode("utf-8", "replace")
        answer = Response(text, self.status, content_type="application/problem+json")
        if self.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
            answer.headers["Retry-After"] = str(RETRY_AFTER_S)
        if self.status == HTTPStatus.UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = "Bearer"
        return answer


def from_http(error: HTTPException) -> Response:
    """Return an error of Flask's as a problem, with its headers, such as Allow."""
    answer = Problem(error.code or 500, error.description or error.name).response()
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value
    return answer


def as_bytes(problem: Problem) -> bytes:
    """Return a problem as all that is sent before the connection is closed."""
    answer = problem.response()
    head = [f"HTTP/1.1 {answer.status}", *(f"{k}: {v}" for k, v in answer.headers.items())]
    return "\r\n".join([*head, "Connection: close", "", ""]).encode() + answer.get_data()
