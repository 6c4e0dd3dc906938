"""A steady load of single ads, and the journal of what became of every request.

The load runs in a process of its own, so that the one that deploys does not hold it up.
Requests begin when they are due, as those of many callers do, and not when the one before
was answered; only when all callers of a route are waiting does the next request wait, too.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any
from urllib.parse import urlsplit

from demand.errors import ServingError

VERSION_HEADER = "demand-model-version"
_ANSWER_S = 90.0
# Far below the time after which the API closes a connection that nobody uses, since a request
# that crosses its end is no failure of the API.
_IDLE_S = 20.0
_CAUSE_MAX = 160


@dataclass(frozen=True)
class Route:
    """A path that is asked so often.

    Parameters
    ----------
    path
        Of the API.
    rate
        Requests per second.
    bodies
        Sent in turn.
    callers
        Requests that may wait for their answers at a time.
    """

    path: str
    rate: float
    bodies: Sequence[bytes]
    callers: int


@dataclass(frozen=True)
class Answered:
    """What became of a request; times are of :func:`time.monotonic`.

    Parameters
    ----------
    path
        Of its route.
    due, begun, ended
        When it was to be sent, was sent, and was answered or failed.
    body
        Number of the body sent.
    version
        Of the model that answered; None where it failed.
    probability
        The answer; None where it failed.
    failure
        Why there is no answer: a status or an exception, and what was said; None after a 200.
    """

    path: str
    due: float
    begun: float
    ended: float
    body: int
    version: str | None
    probability: float | None
    failure: str | None


class Caller:
    """One caller, who keeps a connection.

    Parameters
    ----------
    address
        Root of the API's URLs.
    """

    def __init__(self, address: str) -> None:
        self._host = urlsplit(address).netloc
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0

    def ask(self, route: Route, number: int, due: float) -> Answered:
        """Send a request, and never raise: whatever happens is what became of it."""
        body, begun = number % len(route.bodies), time.monotonic()
        version, probability, failure = None, None, None
        try:
            version, probability = self._ask(route.path, route.bodies[body])
        except Exception as error:
            self._close()
            said = str(error) if isinstance(error, ServingError) else f"{error!r}"
            failure = said[:_CAUSE_MAX]
        return Answered(
            route.path, due, begun, time.monotonic(), body, version, probability, failure
        )

    def _ask(self, path: str, body: bytes) -> tuple[str, float]:
        if self._connection is None or time.monotonic() - self._used > _IDLE_S:
            self._close()
            self._connection = http.client.HTTPConnection(self._host, timeout=_ANSWER_S)
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        self._used = time.monotonic()
        if answer.status != 200:
            raise ServingError(f"status {answer.status}: {_detail(content)}")
        said: Any = json.loads(content)
        if "predictions" in said:
            return str(answer.headers[VERSION_HEADER]), float(said["predictions"][0])
        return str(said["model_version"]), float(said["deal_probability"])

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _detail(content: bytes) -> str:
    """Return what an error says for people, or else all that it says."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(content)["detail"])
    return content.decode("utf-8", "replace")


@dataclass
class Load:
    """A load that is running; afterwards, its journal.

    Parameters
    ----------
    started
        When it began.
    journal
        All requests in the order of their ends; empty until the load was stopped.
    """

    started: float
    journal: list[Answered] = field(default_factory=list)


@contextlib.contextmanager
def steady_load(address: str, routes: Sequence[Route]) -> Iterator[Load]:
    """Ask for the block, and wait for the last answers.

    Raises
    ------
    ServingError
        The process of the load ended before its time.
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(address, list(routes), stop, there), daemon=True)
    process.start()
    there.close()
    try:
        load = Load(_received(here))
        yield load
        stop.set()
        load.journal = sorted(_received(here), key=lambda each: each.ended)
    finally:
        stop.set()
        process.join(_ANSWER_S)
        process.kill()


def _received(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        raise ServingError("the process of the load ended before its time") from None


def _run(address: str, routes: list[Route], stop: Event, results: Connection) -> None:
    """Ask all routes until told to stop, and send what became of it (in the load's process)."""
    started = time.monotonic()
    results.send(started)
    journals: list[list[Answered]] = [[] for _ in routes]
    threads = [
        threading.Thread(target=_ask_steadily, args=(address, route, started, stop, journal))
        for route, journal in zip(routes, journals, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.send([answered for journal in journals for answered in journal])


def _ask_steadily(
    address: str, route: Route, started: float, stop: Event, journal: list[Answered]
) -> None:
    callers = threading.local()

    def ask(number: int, due: float) -> None:
        if not hasattr(callers, "own"):
            callers.own = Caller(address)
        # Appending is one step for all threads.
        journal.append(callers.own.ask(route, number, due))

    with ThreadPoolExecutor(route.callers) as pool:
        number = 0
        while True:
            due = started + number / route.rate
            if stop.wait(max(0.0, due - time.monotonic())):
                return
            pool.submit(ask, number, due)
            number += 1
