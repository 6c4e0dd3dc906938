"""What needs no process; tests/e2e/test_server.py has the rest."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from demand.config import DeploySettings
from demand.errors import ServingError
from demand.registry.packaging import SAMPLES_FILE
from demand.serving import processes
from demand.serving.deployment import Deployment, active, check_answers, status, stop
from demand.serving.processes import ServerProcess, model_servers
from demand.workspace.workspace import Workspace, write_json
from tests.serving.test_endpoint import Server

SETTINGS = DeploySettings(tolerance=1e-6)
Answering = Callable[[list[float]], ServerProcess]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Give a server that answers what the test says."""
    server = Server()

    def answering(answers: list[float]) -> ServerProcess:
        server.answer = json.dumps({"predictions": answers}).encode()
        return ServerProcess(1, 0.0, "127.0.0.1", server.http.server_port, "7", "log")

    yield answering
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / SAMPLES_FILE, {"ads": [{}, {}], "predictions": [0.25, 0.5]})
    return tmp_path


@pytest.mark.parametrize("answers", [[0.25, 0.5], [0.25, 0.5 + 9e-7]])
def test_answers_within_the_tolerance_are_right(
    answering: Answering, folder: Path, answers: list[float]
) -> None:
    check_answers(answering(answers), folder, SETTINGS)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([0.25], "1 answers for 2 ads"),
        ([0.25, 0.5, 0.5], "3 answers for 2 ads"),
        ([0.25, 0.5 + 2e-6], "for sample ad 1"),
        ([math.nan, 0.5], "answered ad 0 of a request with nan, which is no probability"),
        ([0.25, math.inf], "answered ad 1 of a request with inf, which is no probability"),
    ],
)
def test_other_answers_are_an_error(
    answering: Answering, folder: Path, answers: list[float], words: str
) -> None:
    with pytest.raises(ServingError, match=words):
        check_answers(answering(answers), folder, SETTINGS)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.serving.mkdir()
    return workspace


WHOLE = asdict(ServerProcess(2**22 + 1, 0.0, "127.0.0.1", 1, "7", "log"))
DAMAGES = {
    "cut off": b"{",
    "empty": b"",
    "no text": b"\xff\xfe",
    "no fields": b"{}",
    "a list": b"[]",
    "no object": b"7",
    "no server": b'{"server": null, "started_at": "x"}',
    "half a server": b'{"server": {"pid": 1}, "started_at": "x"}',
    "no start": json.dumps({"server": WHOLE}).encode(),
    "a pid in words": json.dumps({"server": WHOLE | {"pid": "1"}, "started_at": "x"}).encode(),
    "no such pid": json.dumps({"server": WHOLE | {"pid": -1}, "started_at": "x"}).encode(),
    "no such port": json.dumps({"server": WHOLE | {"port": 70000}, "started_at": "x"}).encode(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_every_damaged_record_is_told_in_the_same_words(
    workspace: Workspace, damage: bytes
) -> None:
    record = workspace.serving / "active.json"
    record.write_bytes(damage)
    problem = (
        f"{record}, the record of what serves, is damaged: run `demand serve` to write it anew"
    )
    with pytest.raises(ServingError) as said:
        active(workspace)
    told = status(workspace)
    assert (str(said.value), told.problem, told.healthy) == (problem, problem, False)


def test_a_whole_record_is_read(workspace: Workspace) -> None:
    write_json(workspace.serving / "active.json", {"server": WHOLE, "started_at": "x"})
    assert active(workspace) == Deployment(ServerProcess(**WHOLE), "x")


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


ALONE = "print(flush=True)\ninput()\n"
# Forks another, and does not listen when told to stop; nor does that one.
WITH_WORKER = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
print(flush=True)
signal.pause()
"""


@contextlib.contextmanager
def unrecorded_server(
    folder: Path, tmp_path: Path, script: str = WITH_WORKER
) -> Iterator[subprocess.Popen[bytes]]:
    """Run what looks like a server of ``folder``, of which nothing is written."""
    package = tmp_path / "standin" / "demand" / "serving"
    package.mkdir(parents=True)
    for each in (package.parent, package):
        (each / "__init__.py").touch()
    (package / "model_server.py").write_text(script, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "demand.serving.model_server", folder, "--port", "1"],
        cwd=tmp_path / "standin",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        tree = [*psutil.Process(process.pid).children(), psutil.Process(process.pid)]
        try:
            yield process
        finally:
            for each in filter(runs, tree):
                each.kill()


@pytest.mark.parametrize("script", [ALONE, WITH_WORKER], ids=["alone", "with a worker"])
def test_stop_ends_a_server_that_no_record_names(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(processes, "_STOP_TIMEOUT_S", 0.5)
    with unrecorded_server(workspace.serving / "3", tmp_path, script) as process:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        assert model_servers(workspace.serving) == {tree[0]}
        assert stop(workspace)
        assert process.wait(10) is not None
    assert not any(map(runs, tree))
    assert not stop(workspace)


def test_stop_leaves_the_servers_of_other_installations_alone(
    workspace: Workspace, tmp_path: Path
) -> None:
    with unrecorded_server(tmp_path / "serving of another" / "3", tmp_path) as process:
        assert not stop(workspace)
        assert process.poll() is None


def test_stop_ends_what_runs_though_the_record_is_damaged(
    workspace: Workspace, tmp_path: Path
) -> None:
    (workspace.serving / "active.json").write_bytes(b"{")
    with unrecorded_server(workspace.serving / "3", tmp_path, ALONE) as process:
        assert stop(workspace)
        assert process.wait(10) is not None
    assert list(workspace.serving.glob("**/*.json")) == []


def test_stop_ends_a_server_on_record_that_earlier_code_started(workspace: Workspace) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        created = psutil.Process(process.pid).create_time()
        server = ServerProcess(process.pid, created, "127.0.0.1", 1, "7", "log")
        write_json(workspace.serving / "active.json", {"server": asdict(server), "started_at": "x"})
        assert stop(workspace)
        assert process.wait(10) is not None


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104
        ("::1", "http://[::1]:80"),
    ],
)
def test_a_server_is_reached_where_it_listens(host: str, address: str) -> None:
    assert ServerProcess(1, 0.0, host, 80, "7", "log").address == address
