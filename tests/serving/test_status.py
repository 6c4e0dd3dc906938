"""Whether a silent server comes back by itself; tests/e2e/test_server.py has real ones."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from demand.serving import deployment, processes
from demand.serving.deployment import status
from demand.serving.processes import ServerProcess
from demand.workspace.workspace import Workspace, write_json

# Says when it has a child, or that it has none, and waits.
ALONE = "print(flush=True); input()"
WITH_CHILD = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
    "print(flush=True); input()"
)


@contextlib.contextmanager
def master(script: str) -> Iterator[ServerProcess]:
    """Run what has the place of a server's master; nothing answers on its port."""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        created = psutil.Process(process.pid).create_time()
        yield ServerProcess(process.pid, created, "127.0.0.1", 1, "7", "/logs/server.log")


def test_a_master_whose_workers_have_ended_starts_them_again() -> None:
    with master(ALONE) as server:
        assert server.is_restarting()


def test_a_worker_that_was_just_started_will_answer() -> None:
    with master(WITH_CHILD) as server:
        assert server.is_restarting()


def test_one_that_has_been_silent_for_long_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_START_S", 0.0)
    with master(WITH_CHILD) as server:
        assert not server.is_restarting()


def test_without_a_master_nothing_comes_back() -> None:
    with master(ALONE) as server:
        pass
    assert not server.is_restarting()


class Registered:
    """A registry that knows one version, the champion."""

    version_7 = SimpleNamespace(version="7", data_md5="md5", metrics={})

    def __init__(self, _: Workspace) -> None: ...

    def champion(self) -> SimpleNamespace:
        return self.version_7

    def version(self, _: str) -> SimpleNamespace:
        return self.version_7


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(deployment, "Registry", Registered)
    (tmp_path / "mlflow.db").touch()
    return Workspace(tmp_path)


def problem(server: ServerProcess, workspace: Workspace) -> str | None:
    record = {"server": asdict(server), "started_at": "2026-01-01"}
    write_json(workspace.serving / "active.json", record)
    return status(workspace).problem


def test_where_waiting_helps_the_status_says_so_and_where_to_look(installed: Workspace) -> None:
    with master(ALONE) as server:
        assert problem(server, installed) == (
            "the model server http://127.0.0.1:1/invocations ended, and its master starts it "
            "again: wait some seconds; if it stays so, /logs/server.log tells why, and "
            "`demand serve` starts another"
        )


def test_where_waiting_does_not_help_the_status_names_the_command(installed: Workspace) -> None:
    with master(ALONE) as server:
        pass
    assert problem(server, installed) == (
        "the model server http://127.0.0.1:1/invocations does not answer: run `demand serve`"
    )
