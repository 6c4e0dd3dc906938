"""What a program uses while it runs, with all processes below it: time and memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil

from benchmarks.servers.installation import Server

# To sum the pages of a process takes the system some 0.1 s.
SAMPLE_S = 2.0


class Usage(NamedTuple):
    """Used since the start; megabytes at a moment, or the most of several moments.

    A page that n processes share counts once. What another process adopted no longer counts.
    """

    seconds: float
    cpu_s: float
    megabytes: float


def watch(process: psutil.Popen) -> Iterator[Usage]:
    """Yield what a process that was just started has used, every two seconds until it ends."""
    begun, cpu_s = time.perf_counter(), 0.0
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            every = [process, *process.children(recursive=True)]
            megabytes = Server("", lambda: every, 0.0).resident_mb()  # noqa: B023
            cpu_s = max(cpu_s, sum(map(_cpu_seconds, every)))
            yield Usage(time.perf_counter() - begun, cpu_s, megabytes)
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(SAMPLE_S)
    yield Usage(time.perf_counter() - begun, cpu_s, 0.0)


def _cpu_seconds(process: psutil.Process) -> float:
    """Return those of a process and of its children that have ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        used = process.cpu_times()
        return used.user + used.system + used.children_user + used.children_system
    return 0.0
