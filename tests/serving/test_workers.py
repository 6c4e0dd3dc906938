from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from demand.errors import StateError
from demand.serving.workers import map_in_order
from demand.workspace.workspace import PROJECT_ROOT

# A parent that names its children, and is killed when it has its first result.
KILLED = """
import itertools, os, time, psutil
from demand.serving.workers import map_in_order
if __name__ == "__main__":
    for _ in map_in_order(time.sleep, itertools.repeat(0.05), 0):
        print(*(child.pid for child in psutil.Process().children()), flush=True)
        os.kill(os.getpid(), 9)
"""


def test_results_come_in_order_and_items_are_taken_when_they_are_needed() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield taken

    ahead = []
    for done, root in enumerate(map_in_order(math.sqrt, items(), 3), 1):
        assert root == math.sqrt(done)
        ahead.append(taken - done)
    assert len(ahead) == 100
    assert ahead[:3] == [0, 0, 0]
    assert max(ahead) <= 8


def test_few_items_start_no_worker() -> None:
    called_on: list[int] = []
    list(map_in_order(lambda item: called_on.append(item), range(3), 3))
    assert called_on == [0, 1, 2]


def test_an_error_of_a_worker_is_raised() -> None:
    with pytest.raises(ValueError, match="math domain error"):
        list(map_in_order(math.sqrt, [1, -1, 1], 1))


def test_a_worker_that_is_killed_is_told() -> None:
    with pytest.raises(StateError, match="too little memory"):
        list(map_in_order(os._exit, [1], 0))


def test_workers_do_not_outlive_a_parent_that_is_killed() -> None:
    command = [sys.executable, "-c", KILLED]
    run = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    children = [int(pid) for pid in run.stdout.split()]
    assert len(children) >= 2  # with the one that looks after semaphores
    until = time.monotonic() + 30
    while any(map(psutil.pid_exists, children)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not [pid for pid in children if psutil.pid_exists(pid)]
