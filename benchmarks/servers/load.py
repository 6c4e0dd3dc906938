"""Two loads: as much as ``wrk`` can send, and a steady one whose every request is written down.

``wrk`` costs next to nothing; all its connections ask again once they are answered. Requests
of the steady load begin when they are due, as those of many callers do, and not when the one
before was answered; a latency counts from when its request was due. So a server that stands
still for a second shows in all requests of that second.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import resource
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import pandas as pd

from benchmarks.servers.installation import INVOCATIONS, JSON, PREDICT, Ads, body_for
from demand.errors import ServingError

# A server that is silent for longer is down, not busy.
_SILENT_S = 60
COLUMNS = ("path", "ad", "due", "ended", "status", "version", "probability", "failure")
_ANSWER_S = 90.0
# For the bodies to be there when the first request is due.
_HEAD_START_S = 0.5
# Requests of a route that may wait at a time; the next one is sent later than it is due.
_CALLERS = 128
_CAUSE_MAX = 160


@dataclass(frozen=True)
class Load:
    """What became of the requests of one load, which lasted so many seconds.

    Answers by status; of every hundredth of status 200 those that are ``wrong``, of the
    others those that say when to come again (``retry_after``); percentiles of the latency,
    corrected by ``wrk`` for the requests that a slow answer kept from being sent; connections
    refused, connections that broke, requests without an answer for a minute (``silent``).
    """

    statuses: dict[int, int]
    wrong: int
    retry_after: int
    seconds: float
    p50_s: float
    p99_s: float
    refused: int
    broken: int
    silent: int

    @property
    def per_second(self) -> float:
        """Answers of any status a second."""
        return sum(self.statuses.values()) / self.seconds

    @property
    def lost(self) -> int:
        """Requests without an answer of any kind."""
        return self.refused + self.broken + self.silent


def wrk(
    url: str, parts: Iterable[Ads], connections: int, seconds: int, *, all_good: bool = True
) -> Load:
    """Post parts of ads in turn over kept connections, which ask again once they are answered.

    Of status 200 must be every answer where ``all_good`` is asked for, and hold probabilities.

    Raises
    ------
    ServingError
        ``wrk`` is missing or failed, or an answer is not as it must be.
    """
    path, word = PREDICT, "deal_probability"
    if url.endswith(INVOCATIONS):
        path, word = INVOCATIONS, "predictions"
    if shutil.which("wrk") is None:
        raise ServingError("wrk is missing: `apt-get install wrk` (macOS: `brew install wrk`)")
    # A connection is a descriptor.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    command = f"wrk --threads 1 --connections {connections} --duration {seconds}s".split()
    command += ["--timeout", f"{_SILENT_S}s", "--script", str(Path(__file__).with_name("wrk.lua"))]
    with tempfile.NamedTemporaryFile("w") as bodies:
        bodies.writelines(json.dumps(body_for(path, part)) + "\n" for part in parts)
        bodies.flush()
        command += [url, "--", bodies.name, word]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stdout.rstrip().rpartition("\n")[2]
    if done.returncode or not last.startswith("{"):
        raise ServingError(f"wrk failed at {url}: {(done.stderr or done.stdout)[-500:]}")
    found = json.loads(last)
    statuses = {int(status): count for status, count in found.pop("statuses").items()}
    load = Load(statuses=statuses, **found)
    if load.wrong or (all_good and (load.lost or set(statuses) != {200})):
        raise ServingError(f"{url} does not answer all with {word}: {load}")
    return load


def sleep_until(moment: float) -> None:
    """Wait for a moment by :func:`time.monotonic`."""
    time.sleep(max(0.0, moment - time.monotonic()))


@contextlib.contextmanager
def steady_load(
    address: str, ads: Ads, rates: Mapping[str, float]
) -> Iterator[tuple[float, Callable[[], pd.DataFrame]]]:
    """Ask the API at an address for single ads in turn, so often a second by path.

    Yields
    ------
    tuple
        When the first request is due, by :func:`time.monotonic`, and what stops the load and
        returns its journal, a row a request in the order of their ends: path, number of the
        ad, when it was due and when it ended, HTTP's status (0 without an answer), version
        and probability (missing where it failed), and the failure (missing after a 200).
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_ask_all, args=(address, ads, dict(rates), there))
    process.start()
    there.close()

    def journal() -> pd.DataFrame:
        here.send("stop")
        return pd.DataFrame(here.recv(), columns=COLUMNS).sort_values("ended")

    try:
        yield here.recv(), journal
    finally:
        process.terminate()
        process.join()


def _ask_all(address: str, ads: Ads, rates: dict[str, float], parent: Connection) -> None:
    """Tell when the load begins; ask until something is told, then tell what became of it."""
    rows: list[tuple[Any, ...]] = []
    # It sends nothing again, so that no failure is hidden.
    client = httpx.Client(
        headers=JSON,
        limits=httpx.Limits(max_connections=None),
        timeout=_ANSWER_S,
        trust_env=False,
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # the system's takes long to read
    )

    def ask(path: str, body: bytes, ad: int, due: float) -> None:
        said = _said(client, address + path, body)
        # Appending is one step for all threads.
        rows.append((path, ad, due, time.monotonic(), *said))

    def ask_steadily(path: str) -> None:
        bodies = [json.dumps(body_for(path, [ad])).encode() for ad in ads]
        number = 0
        with ThreadPoolExecutor(_CALLERS) as pool:
            while not parent.poll():
                due, ad = started + number / rates[path], number % len(ads)
                sleep_until(due)
                pool.submit(ask, path, bodies[ad], ad, due)
                number += 1

    started = time.monotonic() + _HEAD_START_S
    parent.send(started)
    with client, ThreadPoolExecutor(len(rates)) as pool:
        list(pool.map(ask_steadily, rates))
    parent.send(rows)


def _said(
    client: httpx.Client, url: str, body: bytes
) -> tuple[int, str | None, float | None, str | None]:
    """Ask once, and never raise: whatever happens is what became of it."""
    status = 0
    try:
        answer = client.post(url, content=body)
        status, content = answer.status_code, answer.json()
        if status != 200:
            why = content.get("detail") or content.get("message")
        elif url.endswith(INVOCATIONS):
            version = answer.headers["demand-model-version"]
            return status, version, float(content["predictions"][0]), None
        else:
            return status, content["model_version"], float(content["deal_probability"]), None
    except (httpx.HTTPError, LookupError, AttributeError, TypeError, ValueError) as error:
        why = repr(error)
    return status, None, None, f"status {status}: {why}"[:_CAUSE_MAX]
