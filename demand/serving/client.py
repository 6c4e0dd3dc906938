"""HTTP client of the servers that are deployed: bounded waits and sizes, no redirect.

:class:`Endpoint` asks a deployed model as a program of somebody else would. Two forms are spoken:
MLflow's ``/invocations`` with ``dataframe_records``, and the Flask API's ``/predict`` with a list
of ads. The path of the URL says which.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import httpx

from demand.errors import ConfigError, ServingError
from demand.schema.error_text import quote_json
from demand.serving.http.middleware import PROBE_ALL, PROBE_HEADER, VERSION_HEADER

TOKEN_VARIABLE = "DEMAND_API_TOKEN"  # noqa: S105 - a name
MAX_BYTES = 64 * 2**20
_CONNECT_S = 10.0
# A body that arrives as it was sent: the model server's answers are passed on.
_HEADERS = {"Accept-Encoding": "identity"}
# Above the 60 s after which the model server itself gives up, so that it can say so.
_ANSWER_S = 90.0
_SAID_MAX = 300
_WAY_OUT = (
    "`demand status` tells what serves, `demand serve` serves the champion, --url names "
    "another endpoint"
)


class NoAnswer(ServingError):
    """Nobody listens, the connection broke, or what came is no HTTP."""


class TooSlow(NoAnswer):
    """The whole answer did not come in time."""


@dataclass(frozen=True)
class Response:
    """An answer of any status, its body as it was sent.

    Names of headers are compared without regard to case. The seconds are until the last byte
    received, that of opening a connection among them where none was kept.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    seconds: float


class HttpClient:
    """HTTP client with kept connections, which many threads may use.

    Redirects are not followed. A request is sent again, once, where the connection broke
    before an answer: a server closes those that were idle, and what is asked here changes
    nothing.

    A request is answered as a whole within ``timeout_s``. Where it is ``secure``, the system's
    certificates are loaded, without which no ``https`` is asked; where it is ``proxied``, the
    proxies that the environment names are asked: never on the way to this machine. ServingError:
    what it names is no proxy.
    """

    def __init__(self, timeout_s: float, *, secure: bool = False, proxied: bool = False) -> None:
        self._timeout_s = timeout_s
        # Reading the system's certificates takes longer than any request to loopback.
        none = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusted = ssl.create_default_context() if secure else none
        limits = httpx.Limits(max_connections=None)
        try:
            self._client = httpx.Client(
                headers=_HEADERS, limits=limits, trust_env=proxied, verify=trusted
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise ServingError(f"a proxy of the environment cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def request(
        self,
        method: str,
        url: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Response:
        """Return the answer, whatever its status; another time-out than the client's counts.

        TooSlow or NoAnswer: none came; says why, but not from where. ServingError: it is larger
        than 64 MB; names the URL.
        """
        timeout_s = timeout_s or self._timeout_s
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S))
        more: dict[str, Any] = {"content": content, "headers": headers, "timeout": timeout}
        request = self._client.build_request(method, url, **more)
        for last in (False, True):
            try:
                return self._once(request, timeout_s)
            except httpx.TimeoutException as error:
                raise TooSlow(str(error) or f"no answer within {timeout_s:g} s") from error
            except httpx.TransportError as error:
                if last or isinstance(error, httpx.ConnectError):
                    raise NoAnswer(str(error) or type(error).__name__) from error
        raise AssertionError("the last attempt returns or raises")

    def _once(self, request: httpx.Request, timeout_s: float) -> Response:
        content = bytearray()
        begun = time.perf_counter()
        with closing(self._client.send(request, stream=True)) as answer:
            for part in answer.iter_raw():
                content += part
                if len(content) > MAX_BYTES:
                    raise ServingError(f"{request.url} answers with more than {MAX_BYTES >> 20} MB")
                # The time-out of a socket starts anew with each part.
                if time.perf_counter() - begun > timeout_s:
                    raise TooSlow(f"no whole answer within {timeout_s:g} s")
        seconds = time.perf_counter() - begun
        return Response(answer.status_code, answer.headers, bytes(content), seconds)


def fetch(
    method: str,
    url: str,
    content: bytes | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float,
) -> Response:
    """Return :meth:`HttpClient.request`'s answer over a connection of its own; no ``https``."""
    with HttpClient(timeout_s) as client:
        return client.request(method, url, content, headers)


def token_from_environment() -> str | None:
    """Return the bearer token that the environment names, None where it names none.

    :class:`ConfigError`: it is empty, as where a secret was not filled in, or cannot be sent.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if token == "":
        raise ConfigError(f"{TOKEN_VARIABLE} is empty: set it to a token, or unset it")
    authorization(token)
    return token


def authorization(token: str | None) -> dict[str, str]:
    """Return the header that carries a bearer token, none where there is none.

    ConfigError: it cannot be sent. It is not quoted: what sends it would refuse it with a message
    that has it, and a message may end up in a log.
    """
    if token is None:
        return {}
    if not token.isascii() or not token.isprintable() or token != token.strip():
        raise ConfigError(
            f"the token in {TOKEN_VARIABLE} has letters that no header may have, or white space "
            "at an end: set it to what the API was started with, without line breaks"
        )
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Reply:
    """A probability for each ad, in their order, and the version of the model that gave it.

    That is None where the endpoint does not say; for the seconds see :class:`Response`.
    """

    answers: list[float]
    versions: list[str | None]
    seconds: float


class Endpoint(HttpClient):
    """A URL that answers ads, over one connection that is kept.

    It begins with ``http://`` or ``https://``. A path that ends in ``/predict`` is the Flask
    API's, any other MLflow's; without a path it is ``/invocations``. Requests are marked as
    probes, since no seller asks. They carry the bearer token, as the Flask API may want one: it is
    in no message, not even where the endpoint repeats it. They are answered within ``answer_s``
    seconds.

    Raises
    ------
    ServingError
        It is no such URL.
    ConfigError
        The token cannot stand in a header.
    """

    def __init__(self, url: str, *, token: str | None = None, answer_s: float = _ANSWER_S) -> None:
        parts = _parsed(url)
        self.url = parts.geturl()
        self.is_flask = parts.path.rstrip("/").endswith("/predict")
        self._token = token
        marked = {"Content-Type": "application/json", PROBE_HEADER: PROBE_ALL}
        self._request_headers = {**marked, **authorization(token)}
        super().__init__(answer_s, secure=parts.scheme == "https")

    def ask(self, ads: Sequence[dict[str, Any]]) -> Reply:
        """Send raw ads, as :func:`demand.registry.packaging.records` has them, in one request.

        Raises
        ------
        ServingError
            It does not answer, answers an error or a redirect, or something else than a
            probability for each ad. Names the URL and the way out.
        """
        asked = list(ads) if self.is_flask else {"dataframe_records": list(ads)}
        body = json.dumps(asked, ensure_ascii=False, allow_nan=False).encode()
        try:
            answer = self.request("POST", self.url, body, self._request_headers)
        except NoAnswer as error:
            raise ServingError(f"{self.url} does not answer ({error}): {_WAY_OUT}") from error
        if 300 <= answer.status < 400:
            where = self._quoted(answer.headers.get("Location", "nowhere"))
            raise ServingError(
                f"{self.url} redirects to {where!r}, which is not followed: name the final URL "
                "with --url"
            )
        if answer.status == 401:  # what it said may be in no known form
            wanted = f"a bearer token: set the environment variable {TOKEN_VARIABLE} to it"
            if self._token is not None:
                wanted = (
                    f"another bearer token than that in the environment variable {TOKEN_VARIABLE}: "
                    "set it to what the API was started with"
                )
            raise ServingError(f"{self.url} answered 401, since it wants {wanted}")
        if answer.status != 200:
            said = self._quoted(answer.content.decode("utf-8", "replace")) or "nothing"
            raise ServingError(f"{self.url} answered {answer.status}: {said}; {_WAY_OUT}")
        answers, versions = self._read(answer.content, answer.headers.get(VERSION_HEADER))
        if len(answers) != len(ads):
            raise ServingError(f"{self.url} gave {len(answers)} answers for {len(ads)} ads")
        return Reply(answers, versions, answer.seconds)

    def _read(self, content: bytes, version: str | None) -> tuple[list[float], list[str | None]]:
        try:
            said = json.loads(content)
            if self.is_flask:
                values = [each["deal_probability"] for each in said]
                told = [each.get("model_version") for each in said]
                versions = [str(each) if type(each) in (str, int) else None for each in told]
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

    def _quoted(self, said: str) -> str:
        """Return the beginning of what the endpoint said, in one line and without the token."""
        if self._token:
            said = said.replace(self._token, "[token]")
        return " ".join(said[:_SAID_MAX].split())


def _parsed(url: str) -> SplitResult:
    """Return the parts of an endpoint's URL, with its path."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        if not url.isascii() or any(letter <= " " or letter == "\x7f" for letter in url):
            raise ValueError("white space, or letters that must be encoded")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("no http://HOST in front")
        if parts.username is not None:
            raise ValueError("names and passwords are not sent")
    except ValueError as error:
        raise ServingError(
            f"--url {url[:_SAID_MAX]!r} is no URL of an endpoint ({error}): write it like "
            "http://127.0.0.1:8790/invocations or http://127.0.0.1:8000/predict"
        ) from error
    path = parts.path if parts.path.strip("/") else "/invocations"
    return parts._replace(path=path, fragment="")
