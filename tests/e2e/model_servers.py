"""What the tests of real model servers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psutil
import requests

from demand.registry.packaging import EXAMPLE_ADS
from demand.registry.registry import Registry
from demand.registry.versions import RegisteredVersion
from demand.schema.records import frame_from_records
from demand.workspace.workspace import Workspace

AD = {"title": "Стол письменный", "category_name": "Мебель и интерьер", "price": 500}
SAMPLES = frame_from_records(EXAMPLE_ADS)


def version(number: str) -> RegisteredVersion:
    return Registry().version(number)


def answer(endpoint: str, timeout: float = 10) -> float:
    with requests.Session() as session:
        session.trust_env = False  # no proxy for loopback
        reply = session.post(endpoint, json={"dataframe_records": [AD]}, timeout=timeout)
    reply.raise_for_status()
    return float(reply.json()["predictions"][0])


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.05)


def servers(workspace: Workspace) -> list[psutil.Process]:
    """Return the masters of this installation that run, and what runs without one."""
    found = {}
    for process in psutil.process_iter(["cmdline", "status", "ppid"]):
        command = process.info["cmdline"] or []
        running = process.info["status"] != psutil.STATUS_ZOMBIE
        if running and any(str(workspace.serving) in part for part in command):
            found[process.pid] = process
    return [process for process in found.values() if process.info["ppid"] not in found]


def workers(master: int) -> list[psutil.Process]:
    """Return the processes that answer, once all of them do."""
    wait_for(lambda: len(psutil.Process(master).children()) == 2)
    return psutil.Process(master).children()
