"""Asking a deployed model over HTTP, as a program of somebody else would.

Two forms are spoken: MLflow's ``/invocations`` with ``dataframe_records``, and the Flask
API's ``/predict`` with a list of ads. The path of the URL says which. Redirects are never
followed, proxies of the environment are not asked, and every wait has an end.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from demand.errors import ServingError
from demand.quoting import quote_json
from demand.serving.api.settings import TOKEN_VARIABLE, why_no_token
from demand.serving.model_server import VERSION_HEADER

_CONNECT_S = 10.0
# Above the 60 s after which the model server itself gives up, so that it can say so.
_ANSWER_S = 90.0
_ANSWER_BYTES_MAX = 64 * 2**20
_PART_BYTES = 1 << 16
_SAID_MAX = 300
_SILENT = (OSError, http.client.HTTPException)
_WAY_OUT = (
    "`demand status` tells what serves, `demand serve` serves the champion, --url names "
    "another endpoint"
)


@dataclass(frozen=True)
class Reply:
    """What one request was answered.

    Parameters
    ----------
    answers
        A probability for each ad, in their order.
    versions
        The version of the model that gave each answer; None where it does not say.
    seconds
        From the first byte sent to the last received, over a connection that is open.
    """

    answers: list[float]
    versions: list[str | None]
    seconds: float


class Endpoint:
    """A URL that answers ads, over one connection that is kept.

    Parameters
    ----------
    url
        ``http://`` or ``https://``. A path that ends in ``/predict`` is the Flask API's,
        any other MLflow's; without a path it is ``/invocations``.
    token
        Bearer token that requests carry, as the Flask API may want one; None: none. It is
        in no message, not even where the endpoint repeats it.
    answer_s
        Most seconds until a request is answered.

    Raises
    ------
    ServingError
        It is no such URL, or the token cannot stand in a header.
    """

    def __init__(self, url: str, *, token: str | None = None, answer_s: float = _ANSWER_S) -> None:
        self._secure, self._host, self._port, self._path, self.url = _parsed(url)
        if token is not None and (why := why_no_token(token)):
            raise ServingError(why)
        self._token = token
        self._answer_s = answer_s
        self._connection: http.client.HTTPConnection | None = None

    @property
    def is_flask(self) -> bool:
        """Whether it is asked in the form of the Flask API."""
        return _is_flask(self._path.partition("?")[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ask(self, ads: Sequence[dict[str, Any]]) -> Reply:
        """Send raw ads in one request.

        Parameters
        ----------
        ads
            As JSON carries them; see :func:`demand.serving.mlflow_model.records`.

        Raises
        ------
        ServingError
            It does not answer, answers an error or a redirect, or something else than a
            probability for each ad. Names the URL and the way out.
        """
        asked = list(ads) if self.is_flask else {"dataframe_records": list(ads)}
        body = json.dumps(asked, ensure_ascii=False, allow_nan=False).encode()
        status, headers, content, seconds = self._post(body)
        if 300 <= status < 400:
            where = self._quoted(headers.get("Location", "nowhere"))
            raise ServingError(
                f"{self.url} redirects to {where!r}, which is not followed: name the final URL "
                "with --url"
            )
        if status == 401:
            raise ServingError(self._unauthorized())
        if status != 200:
            said = self._quoted(content.decode("utf-8", "replace"))
            raise ServingError(f"{self.url} answered {status}: {said or 'nothing'}; {_WAY_OUT}")
        answers, versions = self._read(content, headers.get(VERSION_HEADER))
        if len(answers) != len(ads):
            raise ServingError(f"{self.url} gave {len(answers)} answers for {len(ads)} ads")
        return Reply(answers, versions, seconds)

    def _read(self, content: bytes, version: str | None) -> tuple[list[float], list[str | None]]:
        try:
            said = json.loads(content)
            if self.is_flask:
                values = [each["deal_probability"] for each in said]
                versions = [_version(each.get("model_version")) for each in said]
            else:
                values = list(said["predictions"])
                versions = [version] * len(values)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            form = "a list of objects with deal_probability" if self.is_flask else "predictions"
            quoted = self._quoted(content.decode("utf-8", "replace"))
            raise ServingError(f"{self.url} did not answer with {form}, but: {quoted}") from error
        for row, value in enumerate(values):
            # Written so that NaN fails.
            if type(value) not in (int, float) or not 0.0 <= value <= 1.0:
                raise ServingError(
                    f"{self.url} answered ad {row} of a request with "
                    f"{self._quoted(quote_json(value))}, which is no probability"
                )
        return [float(value) for value in values], versions

    def _unauthorized(self) -> str:
        """Return what to do about a 401; what the endpoint said may be in no known form."""
        if self._token is None:
            return (
                f"{self.url} answered 401, since it wants a bearer token: set the environment "
                f"variable {TOKEN_VARIABLE} to it"
            )
        return (
            f"{self.url} answered 401, since it wants another bearer token than that in the "
            f"environment variable {TOKEN_VARIABLE}: set it to what the API was started with"
        )

    def _quoted(self, said: str) -> str:
        """Return the beginning of what the endpoint said, in one line and without the token."""
        if self._token:
            said = said.replace(self._token, "[token]")
        return " ".join(said[:_SAID_MAX].split())

    def _post(self, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes, float]:
        # A connection that was kept may have been closed by the other side meanwhile. Asking
        # again is safe, since an answer changes nothing.
        for kept in (True, False) if self._connection else (False,):
            try:
                return self._exchange(body)
            except _SILENT as error:
                self.close()
                if not kept or isinstance(error, TimeoutError):
                    raise ServingError(
                        f"{self.url} does not answer ({error or type(error).__name__}): {_WAY_OUT}"
                    ) from error
        raise AssertionError("the last attempt returns or raises")

    def _exchange(self, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes, float]:
        connection = self._connection or self._connect()
        begun = time.perf_counter()
        sent = {"Content-Type": "application/json"}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        connection.request("POST", self._path, body, sent)
        with connection.getresponse() as answer:
            content = self._content(answer, begun + self._answer_s)
        seconds = time.perf_counter() - begun
        if answer.will_close:
            self.close()
        return answer.status, answer.headers, content, seconds

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=_CONNECT_S)
        connection.connect()
        connection.sock.settimeout(self._answer_s)
        self._connection = connection
        return connection

    def _content(self, answer: http.client.HTTPResponse, deadline: float) -> bytes:
        """Read an answer part by part: the socket's own time limit starts anew with each."""
        parts: list[bytes] = []
        size = 0
        while part := answer.read1(_PART_BYTES):
            parts.append(part)
            size += len(part)
            if size > _ANSWER_BYTES_MAX:
                self.close()
                raise ServingError(
                    f"{self.url} answers with more than {_ANSWER_BYTES_MAX >> 20} MB"
                )
            if time.perf_counter() > deadline:
                raise TimeoutError(f"no whole answer within {self._answer_s:g} s")
        return b"".join(parts)


def _parsed(url: str) -> tuple[bool, str, int, str, str]:
    """Return whether it is https, host, port, path with its query, and the whole URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _no_url(url, str(error)) from error
    if not url.isascii() or any(letter <= " " or letter == "\x7f" for letter in url):
        raise _no_url(url, "white space, or letters that must be encoded")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _no_url(url, "no http://HOST in front")
    if parts.username is not None:
        raise _no_url(url, "names and passwords are not sent")
    path = parts.path if parts.path.strip("/") else "/invocations"
    whole = parts._replace(path=path, fragment="").geturl()
    secure = parts.scheme == "https"
    target = path + (f"?{parts.query}" if parts.query else "")
    return secure, parts.hostname, port or (443 if secure else 80), target, whole


def _no_url(url: str, why: str) -> ServingError:
    return ServingError(
        f"--url {url[:_SAID_MAX]!r} is no URL of an endpoint ({why}): write it like "
        "http://127.0.0.1:8790/invocations or http://127.0.0.1:8000/predict"
    )


def _is_flask(path: str) -> bool:
    return path.rstrip("/").endswith("/predict")


def _version(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
