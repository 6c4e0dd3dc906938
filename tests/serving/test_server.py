"""What needs no process; tests/e2e/test_server.py has the rest."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from demand.config import DeploySettings
from demand.errors import ServingError
from demand.serving import processes
from demand.serving.mlflow_model import SAMPLES_FILE
from demand.serving.processes import ServerProcess, model_servers
from demand.serving.server import Deployment, active, check_answers, stop
from demand.serving.status import status
from demand.state import Home, write_json

SETTINGS = DeploySettings(tolerance=1e-6)


class Answering(ServerProcess):
    """A server that answers what the test says."""

    def __init__(self, answers: list[float]) -> None:
        super().__init__(0, 0.0, "127.0.0.1", 1, "7", "log")
        object.__setattr__(self, "answers_given", answers)

    def predict(self, *_: object) -> list[float]:
        return list(self.answers_given)  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / SAMPLES_FILE, {"ads": [{}, {}], "predictions": [0.25, 0.5]})
    return tmp_path


@pytest.mark.parametrize("answers", [[0.25, 0.5], [0.25, 0.5 + 9e-7]])
def test_answers_within_the_tolerance_are_right(folder: Path, answers: list[float]) -> None:
    check_answers(Answering(answers), folder, SETTINGS)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([0.25], "1 answers for 2 sample ads"),
        ([0.25, 0.5, 0.5], "3 answers for 2 sample ads"),
        ([0.25, 0.5 + 2e-6], "for sample ad 1"),
        ([math.nan, 0.5], "answers nan for sample ad 0"),
        ([0.25, math.inf], "answers inf for sample ad 1"),
    ],
)
def test_other_answers_are_an_error(folder: Path, answers: list[float], words: str) -> None:
    with pytest.raises(ServingError, match=words):
        check_answers(Answering(answers), folder, SETTINGS)


@pytest.fixture
def place(tmp_path: Path) -> Home:
    place = Home(tmp_path)
    place.serving.mkdir()
    return place


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
def test_every_damaged_record_is_told_in_the_same_words(place: Home, damage: bytes) -> None:
    record = place.serving / "active.json"
    record.write_bytes(damage)
    problem = (
        f"{record}, the record of what serves, is damaged: run `demand serve` to write it anew"
    )
    with pytest.raises(ServingError) as said:
        active(place)
    told = status(place)
    assert (str(said.value), told.problem, told.healthy) == (problem, problem, False)


def test_a_whole_record_is_read(place: Home) -> None:
    write_json(place.serving / "active.json", {"server": WHOLE, "started_at": "x"})
    assert active(place) == Deployment(ServerProcess(**WHOLE), "x")


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


SILENT = {
    "model_server": "print(flush=True)\ninput()\n",
    # Starts the other, and does not listen when told to stop.
    "supervisor": """
import pathlib, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
script = pathlib.Path("demand/serving/model_server.py")
script.write_text("import signal, sys\\nprint(flush=True)\\nsignal.pause()\\n")
subprocess.run([sys.executable, "-m", "demand.serving.model_server", *sys.argv[1:]])
signal.pause()
""",
}


@contextlib.contextmanager
def unrecorded_server(
    folder: Path, tmp_path: Path, module: str = "supervisor"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run what looks like a server of ``folder``, of which nothing is written."""
    package = tmp_path / "standin" / "demand" / "serving"
    package.mkdir(parents=True)
    (package / f"{module}.py").write_text(SILENT[module], encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", f"demand.serving.{module}", folder, "--port", "1"],
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


@pytest.mark.parametrize("module", SILENT)
def test_stop_ends_a_server_that_no_record_names(
    place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setattr(processes, "_STOP_TIMEOUT_S", 0.5)
    with unrecorded_server(place.serving / "3", tmp_path, module) as process:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        assert model_servers(place.serving) == {tree[0]}
        assert stop(place)
        assert process.wait(10) is not None
    assert not any(map(runs, tree))
    assert not stop(place)


def test_stop_leaves_the_servers_of_other_installations_alone(place: Home, tmp_path: Path) -> None:
    with unrecorded_server(tmp_path / "serving of another" / "3", tmp_path) as process:
        assert not stop(place)
        assert process.poll() is None


def test_stop_ends_what_runs_though_the_record_is_damaged(place: Home) -> None:
    (place.serving / "active.json").write_bytes(b"{")
    with subprocess.Popen(["sleep", "600"]) as process:
        created = psutil.Process(process.pid).create_time()
        started = ServerProcess(process.pid, created, "127.0.0.1", 1, "7", "log")
        write_json(place.serving / "started" / f"{process.pid}.json", asdict(started))
        assert stop(place)
        assert process.wait(10) is not None
    assert list(place.serving.glob("**/*.json")) == []


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
