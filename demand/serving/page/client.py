"""The deployed API as the page asks it: the Flask API, or an MLflow model server."""

from __future__ import annotations

import ipaddress
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import requests

from demand.errors import ConfigError, DemandError
from demand.serving.api.settings import why_no_token

Kind = Literal["flask", "mlflow"]
TroubleKind = Literal["down", "slow", "busy", "no_model", "denied", "refused", "strange"]

ANSWER_S = 10.0
PROBE_S = 3.0
_CONNECT_S = 2.0
# A refused request is asked again after each of these pauses, in seconds.
_BUSY_PAUSES_S = (0.3, 1.0)
_ROUTES = ("/predict", "/invocations")


class Trouble(DemandError):
    """The API gave no answer, in the terms of the page.

    Parameters
    ----------
    kind
        ``down`` (nobody there), ``slow`` (no answer in time), ``busy``, ``no_model`` (alive,
        but nothing is deployed), ``denied`` (the token), ``refused`` (an ad is not as it must
        be), ``strange`` (something else answers there).
    detail
        What the API said.
    field, row
        Of a refused ad, where they are known.
    """

    def __init__(
        self, kind: TroubleKind, detail: str, *, field: str | None = None, row: int | None = None
    ) -> None:
        super().__init__(detail)
        self.kind: TroubleKind = kind
        self.detail = detail
        self.field = field
        self.row = row


@dataclass(frozen=True)
class Answer:
    """What is said of one ad; all but the probability are None where it is not known."""

    probability: float
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    percentile: float | None = None
    version: str | None = None


class Client:
    """Asks one URL over kept connections; may be used by many threads.

    Parameters
    ----------
    url
        Root of the API; a route such as ``/predict`` at its end is left out.
    token
        Bearer token, or None.
    answer_s
        Longest wait for an answer, in seconds.

    Raises
    ------
    ConfigError
        This is no URL of a server, or the token cannot stand in a header.
    """

    def __init__(self, url: str, token: str | None = None, *, answer_s: float = ANSWER_S) -> None:
        self.root = _root(url)
        if token is not None and (why := why_no_token(token)):
            raise ConfigError(why)
        self._token = token
        self._answer_s = answer_s
        self._own = threading.local()

    def kind(self) -> tuple[Kind, str | None]:
        """Ask what answers there, and which version of the model it has.

        Raises
        ------
        Trouble
            Nobody, too slowly, or something else than the two kinds.
        """
        status, body = self._ask("GET", "/info", timeout=PROBE_S)
        if status in (401, 403):
            raise Trouble("denied", _detail(body))
        if status == 200 and isinstance(body, dict) and "model_version" in body:
            if body["model_version"] is None:
                raise Trouble("no_model", str(body.get("problem") or ""))
            return "flask", str(body["model_version"])
        if status >= 500:
            raise Trouble("busy", _detail(body))
        status, _ = self._ask("GET", "/ping", timeout=PROBE_S)
        if status == 200:
            return "mlflow", None
        raise Trouble("strange", f"{self.root} answers {status}, but not as this API does")

    def facts(self, route: str) -> dict[str, Any] | None:
        """Return what ``/market`` or ``/card`` tells; None where the model has no such facts.

        Raises
        ------
        Trouble
            There was no answer.
        """
        status, body = self._ask("GET", route, timeout=self._answer_s)
        if status == 200 and isinstance(body, dict):
            return body
        if status in (404, 405):
            return None
        raise _trouble(status, body)

    def answers(self, ads: Sequence[Mapping[str, Any]], kind: Kind) -> list[Answer]:
        """Ask about some ads at once, and again where the API was only busy.

        Raises
        ------
        Trouble
            There was no answer.
        """
        route = "/predict" if kind == "flask" else "/invocations"
        body = list(ads) if kind == "flask" else {"dataframe_records": list(ads)}
        text = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        status, found = self._ask("POST", route, text)
        for pause in _BUSY_PAUSES_S:
            if status not in (429, 503):
                break
            time.sleep(pause)
            status, found = self._ask("POST", route, text)
        if status != 200:
            raise _trouble(status, found)
        return _read(found, kind, len(ads))

    def _ask(
        self, method: str, route: str, body: bytes | None = None, *, timeout: float | None = None
    ) -> tuple[int, Any]:
        wait = (_CONNECT_S, timeout or self._answer_s)
        try:
            try:
                reply = self._send(method, route, body, wait)
            except requests.ConnectTimeout:
                raise
            except requests.ConnectionError:
                # A connection that was kept may have died with an API that is back by now.
                self._own.session = None
                reply = self._send(method, route, body, wait)
        except requests.ReadTimeout as error:
            raise Trouble("slow", f"{self.root} did not answer within {wait[1]:g} s") from error
        except requests.RequestException as error:
            self._own.session = None
            raise Trouble("down", f"{self.root} cannot be reached") from error
        try:
            return reply.status_code, reply.json()
        except ValueError:
            return reply.status_code, None

    def _send(
        self, method: str, route: str, body: bytes | None, wait: tuple[float, float]
    ) -> requests.Response:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        return self._session().request(
            method,
            self.root + route,
            data=body,
            headers=headers,
            timeout=wait,
            allow_redirects=False,
        )

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = requests.Session()
            # A proxy is never on the way to this machine itself.
            session.trust_env = not _is_here(self.root)
            if self._token is not None:
                session.headers["Authorization"] = f"Bearer {self._token}"
        return session


def _root(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.username is not None:
        raise ConfigError(f"{url!r} is no URL of an API, such as http://127.0.0.1:8000")
    path = parts.path.rstrip("/")
    for route in _ROUTES:
        path = path.removesuffix(route)
    return f"{parts.scheme}://{parts.netloc}{path}"


def _is_here(root: str) -> bool:
    host = urlsplit(root).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _trouble(status: int, body: Any) -> Trouble:
    detail = _detail(body)
    if status in (401, 403):
        return Trouble("denied", detail)
    if status in (429, 503):
        return Trouble("busy", detail)
    if status in (400, 413, 422) and isinstance(body, dict):
        field, row = body.get("field"), body.get("row")
        return Trouble(
            "refused",
            detail,
            field=field if isinstance(field, str) else None,
            row=row if isinstance(row, int) else None,
        )
    if status in (404, 405) or status < 400:
        return Trouble("strange", f"the answer was {status}: {detail}")
    return Trouble("busy", detail)


def _detail(body: Any) -> str:
    if not isinstance(body, dict):
        return ""
    # The second name is that of MLflow's errors.
    return str(body.get("detail") or body.get("message") or "")[:500]


def _read(found: Any, kind: Kind, count: int) -> list[Answer]:
    """Read answers, or say that these are none."""
    try:
        if kind == "mlflow":
            answers = [Answer(float(value)) for value in found["predictions"]]
        else:
            answers = [_read_one(value) for value in found]
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise Trouble("strange", "the answers cannot be read") from error
    if len(answers) != count:
        raise Trouble("strange", f"{len(answers)} answers to {count} ads")
    return answers


def _read_one(value: Mapping[str, Any]) -> Answer:
    interval = value.get("interval") or {}
    return Answer(
        float(value["deal_probability"]),
        interval.get("low"),
        interval.get("high"),
        interval.get("coverage"),
        value.get("percentile"),
        value.get("model_version"),
    )
