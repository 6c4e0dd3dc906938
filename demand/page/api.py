"""The deployed API as the page asks it, the Flask API or an MLflow model server, and its state."""

from __future__ import annotations

import dataclasses
import datetime
import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import httpx

from demand.errors import ConfigError, DemandError, ServingError
from demand.schema.columns import PARAMS
from demand.serving.client import HttpClient, NoAnswer, TooSlow, authorization
from demand.serving.http.middleware import (
    PROBE_EXCEPT,
    PROBE_HEADER,
    REQUEST_ID_HEADER,
    is_loopback,
)

Kind = Literal["flask", "mlflow"]
TroubleKind = Literal[
    "down", "slow", "busy", "no_model", "denied", "refused", "strange", "no_outcomes"
]  # fmt: skip

ANSWER_S = 10.0
PROBE_S = 3.0
# A refused request is asked again after each of these pauses, in seconds.
_BUSY_PAUSES_S = (0.3, 1.0)
# An answer about the API's state is good for so long, in seconds.
_FRESH_S = 2.0
# A model server does not say its version: its facts are asked for anew after this time.
_FACTS_S = 60.0
_JSON = {"Content-Type": "application/json"}
_KINDS: Mapping[int, TroubleKind] = {
    401: "denied", 403: "denied", 400: "refused", 413: "refused", 422: "refused",
    404: "strange", 405: "strange",
}  # fmt: skip


class Trouble(DemandError):
    """The API gave no answer, in the terms of the page, and what it said in detail.

    Its kind is ``down`` (nobody there), ``slow`` (no answer in time), ``busy``, ``no_model``
    (alive, but nothing is deployed), ``denied`` (the token), ``refused`` (an ad is not as it must
    be: its field and row, where they are known), ``strange`` (something else answers there), or
    ``no_outcomes`` (it does not keep what became of ads).
    """

    def __init__(
        self, kind: TroubleKind, detail: str, *, field: str | None = None, row: int | None = None
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.field, self.row = kind, detail, field, row


@dataclass(frozen=True)
class Answer:
    """What is said of one ad; all but the probability are None where it is not known.

    The request id is that of an API which may be told later what became of the ad.
    """

    probability: float
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    percentile: float | None = None
    version: str | None = None
    request_id: str | None = None


class Client:
    """HTTP client of one API over kept connections; may be used by many threads.

    Of its address, the root of the API's URLs, a route such as ``/predict`` at the end is left
    out; the bearer token is None where there is none. ConfigError: this is no URL of a server, or
    the token cannot stand in a header.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        url = _url(address)
        self.root, self._headers = str(url).rstrip("/"), authorization(token)
        secure, proxied = url.scheme == "https", not is_loopback(url.host)
        self._http = HttpClient(ANSWER_S, secure=secure, proxied=proxied)

    def kind(self) -> tuple[Kind, str | None]:
        """Return what answers there, and which version of the model it has.

        :class:`Trouble` where that is nobody, too slowly, or something else than the two kinds.
        """
        status, body, _ = self._ask("GET", "/info", timeout=PROBE_S)
        if status in (401, 403) or status >= 500:
            raise _trouble(status, body)
        if status == 200 and isinstance(body, dict) and "model_version" in body:
            if body["model_version"] is None:
                raise Trouble("no_model", str(body.get("problem") or ""))
            return "flask", str(body["model_version"])
        status, *_ = self._ask("GET", "/ping", timeout=PROBE_S)
        if status == 200:
            return "mlflow", None
        raise Trouble("strange", f"{self.root} answers {status}, but not as this API does")

    def facts(self, route: str) -> dict[str, Any] | None:
        """Return what ``/market`` or ``/card`` tells; None where the model has no such facts.

        :class:`Trouble` where there was no answer.
        """
        status, body, _ = self._ask("GET", route)
        if status == 200 and isinstance(body, dict):
            return body
        if status in (404, 405):
            return None
        raise _trouble(status, body)

    def answers(
        self, ads: Sequence[Mapping[str, Any]], kind: Kind, own: Iterable[int] = (0,)
    ) -> list[Answer]:
        """Ask about some ads at once, and again where the API was only busy.

        Its ``own`` rows are ads of sellers, all others variants of them, and marked as probes.
        :class:`Trouble` where there was no answer.
        """
        route = "/predict" if kind == "flask" else "/invocations"
        body = list(ads) if kind == "flask" else {"dataframe_records": list(ads)}
        marked = {PROBE_HEADER: PROBE_EXCEPT + ",".join(map(str, own))}
        status, found, request_id = self._post(route, body, marked)
        if status != 200:
            raise _trouble(status, found)
        return _read(found, kind, len(ads), request_id)

    def report(self, request_id: str, *, sold: bool) -> None:
        """Tell the Flask API what became of the first ad of a request; the latest counts.

        :class:`Trouble` where it was not kept.
        """
        # Of two that overtake one another, the later click is the later one there, too.
        now = datetime.datetime.now(datetime.UTC).isoformat()
        outcome = {"request_id": request_id, "deal_probability": float(sold), "time": now}
        status, found, _ = self._post("/outcomes", outcome)
        if status in (404, 405):
            raise Trouble("no_outcomes", f"{self.root} keeps no outcomes")
        if status != 200:
            raise _trouble(status, found)

    def _post(
        self, route: str, value: Any, marked: Mapping[str, str] | None = None
    ) -> tuple[int, Any, str | None]:
        """Send JSON, and again where the API was only busy; see :meth:`_ask`."""
        text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        for pause in _BUSY_PAUSES_S:
            answer = self._ask("POST", route, text, marked)
            if answer[0] not in (429, 503):
                return answer
            time.sleep(pause)
        return self._ask("POST", route, text, marked)

    def _ask(
        self,
        method: str,
        route: str,
        body: bytes | None = None,
        marked: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> tuple[int, Any, str | None]:
        """Return status, JSON and request id of an answer; None where it has no such."""
        headers = self._headers if body is None else {**self._headers, **_JSON, **(marked or {})}
        timeout = timeout or ANSWER_S
        try:
            answer = self._http.request(method, self.root + route, body, headers, timeout)
        except TooSlow as error:
            raise Trouble("slow", f"{self.root} did not answer within {timeout:g} s") from error
        except NoAnswer as error:
            raise Trouble("down", f"{self.root} cannot be reached") from error
        except ServingError as error:
            raise Trouble("strange", "the answer is too long") from error
        try:
            found = json.loads(answer.content)
        except (ValueError, RecursionError):
            found = None
        return answer.status, found, answer.headers.get(REQUEST_ID_HEADER)


def _url(address: str) -> httpx.URL:
    """Return the root of the API's URLs."""
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
        known = url.scheme in ("http", "https") and url.host and url.port != 0 and not url.userinfo
    except httpx.InvalidURL:
        known = False
    if not known:
        raise ConfigError(f"{address!r} is no URL of an API, such as http://127.0.0.1:8000")
    path = url.path.rstrip("/").removesuffix("/predict").removesuffix("/invocations")
    return url.copy_with(path=path or "/", query=None, fragment=None)


def _trouble(status: int, body: Any) -> Trouble:
    told = body if isinstance(body, dict) else {}
    # The second name is that of MLflow's errors.
    detail = str(told.get("detail") or told.get("message") or "")[:500]
    kind = _KINDS.get(status, "strange" if status < 400 else "busy")
    if kind == "strange":
        detail = f"the answer was {status}: {detail}"
    if kind != "refused" or not told:
        return Trouble("busy" if kind == "refused" else kind, detail)
    field, row = (told.get(name) for name in ("field", "row"))
    field, row = field if isinstance(field, str) else None, row if isinstance(row, int) else None
    return Trouble(kind, detail, field=field, row=row)


def _read(found: Any, kind: Kind, count: int, request_id: str | None) -> list[Answer]:
    """Read answers, or say that these are none."""
    try:
        if kind == "mlflow":
            answers = [Answer(float(value)) for value in found["predictions"]]
        else:
            answers = [_read_one(value, request_id) for value in found]
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise Trouble("strange", "the answers cannot be read") from error
    if len(answers) != count:
        raise Trouble("strange", f"{len(answers)} answers to {count} ads")
    return answers


def _read_one(value: Mapping[str, Any], request_id: str | None) -> Answer:
    interval = value.get("interval") or {}
    return Answer(
        float(value["deal_probability"]),
        **{name: interval.get(name) for name in ("low", "high", "coverage")},
        percentile=value.get("percentile"),
        version=value.get("model_version"),
        request_id=request_id,
    )


@dataclass(frozen=True)
class CategoryStatistics:
    """Category statistics of the ads that the model learnt from, as ``GET /market`` has them."""

    facts: Mapping[str, Any]

    def category(self, name: str | None) -> Mapping[str, Any] | None:
        """Return the facts of one category; None where it is not known."""
        return next((c for c in self.facts.get("categories", ()) if c["name"] == name), None)

    def choices(self, ad: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return the values that there are of each field, with what an ad already says.

        The one with most ads comes first; a param that has no values there is absent.
        """
        parent, region = ad.get("parent_category_name"), ad.get("region")
        categories, regions = self.facts.get("categories", ()), self.facts.get("regions", ())
        cities = [r["cities"] for r in regions if not region or r["name"] == region]
        choices = {
            "parent_category_name": list(dict.fromkeys(c["parent"] for c in categories)),
            "category_name": [c["name"] for c in categories if not parent or c["parent"] == parent],
            "region": [r["name"] for r in regions],
            "city": list(dict.fromkeys(chain.from_iterable(cities))),
        }
        level = (self.category(ad.get("category_name")) or {}).get("params", [])
        for name in PARAMS:
            if level:
                choices[name] = [node["value"] for node in level]
            level = next((node["next"] for node in level if node["value"] == ad.get(name)), [])
        return choices


@dataclass(frozen=True)
class Snapshot:
    """The API at one moment: what is wrong, None where it answers, and facts of its model.

    Kind and version are those of the last time that it answered; statistics and card are None
    where the model has none, and the revision grows whenever one of these two changes.
    """

    trouble: TroubleKind | None = None
    kind: Kind | None = None
    version: str | None = None
    statistics: CategoryStatistics | None = None
    card: Mapping[str, Any] | None = None
    revision: int = 0


class Source:
    """The API with its facts, asked once for all who have the page open, by many threads."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._asking = threading.Lock()
        self._last = Snapshot()
        self._asked = self._told = float("-inf")

    def snapshot(self, *, fresh: bool = False) -> Snapshot:
        """Return how the API is, at most two seconds old; or, with ``fresh``, now."""
        if not fresh and time.monotonic() - self._asked < _FRESH_S:
            return self._last
        # Somebody may be asking, perhaps for seconds: nobody else needs to wait for that.
        if not self._asking.acquire(blocking=fresh or self._asked == float("-inf")):
            return self._last
        try:
            if fresh or time.monotonic() - self._asked >= _FRESH_S:
                self._last = self._look()
                self._asked = time.monotonic()
        finally:
            self._asking.release()
        return self._last

    def answering(self) -> tuple[Snapshot, Kind]:
        """Return how the API is and of which kind; :class:`Trouble` until it has said that."""
        snapshot = self.snapshot()
        if snapshot.kind is None:
            snapshot = self.snapshot(fresh=True)
        if snapshot.kind is None:
            raise Trouble(snapshot.trouble or "down", "it has not answered yet")
        return snapshot, snapshot.kind

    def _look(self) -> Snapshot:
        last = self._last
        try:
            kind, version = self.client.kind()
            same = (kind, version) == (last.kind, last.version)
            if same and (kind == "flask" or time.monotonic() - self._told < _FACTS_S):
                return dataclasses.replace(last, trouble=None)
            facts, card = self.client.facts("/market"), self.client.facts("/card")
            self._told = time.monotonic()
        except Trouble as trouble:
            return dataclasses.replace(last, trouble=trouble.kind)
        statistics = None if facts is None else CategoryStatistics(facts)
        changed = not same or (statistics, card) != (last.statistics, last.card)
        return Snapshot(None, kind, version, statistics, card, last.revision + changed)
