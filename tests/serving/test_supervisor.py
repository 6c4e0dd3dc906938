"""The supervisor, around a model server of a few lines; tests/e2e/test_server.py has a real one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from demand.errors import ServingError
from demand.serving.listening import listen
from demand.serving.processes import ServerProcess
from demand.serving.supervisor import Patience, tell_ready
from demand.state import PROJECT_ROOT

WAIT_S = 20.0

# Tells each caller its process id, after what the file `behaviour` says at its start.
MODEL_SERVER = """
import os, signal, sys, time
from pathlib import Path
from demand.serving.listening import inherited
from demand.serving.supervisor import end_with_supervisor, tell_ready

end_with_supervisor()
folder, descriptor, option, ready = sys.argv[1:]
assert option == "--ready-fd"
behaviour = (Path(folder) / "behaviour").read_text()
with (Path(folder) / "starts").open("a") as starts:
    starts.write(f"{os.getpid()}\\n")
if behaviour == "fail":
    sys.exit(3)
if behaviour == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "finish":
    signal.signal(signal.SIGTERM, lambda *_: [time.sleep(0.2), os._exit(0)])
listener = inherited(int(descriptor))
tell_ready(int(ready))
while True:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(str(os.getpid()).encode())
"""

SUPERVISOR = """
import json, logging, sys
from demand.serving.listening import inherited
from demand.serving.supervisor import Patience, Supervisor

script, folder, descriptor, patience = sys.argv[1:]
logging.basicConfig()
supervisor = Supervisor(
    [sys.executable, script, folder, descriptor],
    inherited(int(descriptor)),
    Patience(**json.loads(patience)),
)
sys.exit(supervisor.run())
"""


class Supervised:
    """A supervisor, and what it is about."""

    def __init__(self, folder: Path, address: tuple[str, int]) -> None:
        self.folder = folder
        self.address = address
        self.process: subprocess.Popen[bytes]

    def behave(self, how: str) -> None:
        (self.folder / "behaviour").write_text(how)

    @property
    def starts(self) -> list[int]:
        """Process ids of the model servers so far."""
        path = self.folder / "starts"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self) -> int:
        """Return the process id of the model server, as it tells it."""
        with socket.create_connection(self.address, WAIT_S) as connection:
            return int(connection.recv(16))


Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "model_server.py").write_text(MODEL_SERVER)
    started: list[Supervised] = []

    def start(behaviour: str, **patience: float) -> Supervised:
        with listen("127.0.0.1", 0) as listener, (tmp_path / "log").open("wb") as log:
            supervised = Supervised(tmp_path, listener.getsockname())
            supervised.behave(behaviour)
            descriptor = listener.fileno()
            supervised.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", SUPERVISOR, tmp_path / "model_server.py", tmp_path),
                    *(str(descriptor), json.dumps(patience)),
                ],
                stderr=log,
                pass_fds=[descriptor],
                cwd=PROJECT_ROOT,
                env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
            )
        started.append(supervised)
        return supervised

    yield start
    for supervised in started:
        supervised.process.kill()
        supervised.process.wait()
        for pid in supervised.starts:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


def between_two_starts(start: Start) -> Supervised:
    """Return a supervisor in a long pause, after a restart that failed."""
    supervised = start("serve", first_pause_s=60, longest_pause_s=60)
    first = supervised.ask()
    supervised.behave("fail")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: "starting it again in 60 s" in supervised.log)
    return supervised


def test_a_killed_model_server_is_replaced_and_who_connects_meanwhile_waits(start: Start) -> None:
    supervised = start("serve")
    first = supervised.ask()
    os.kill(first, signal.SIGKILL)
    second = supervised.ask()
    assert [first, second] == supervised.starts
    assert "was killed by SIGKILL (by someone, or by the system for want of mem" in supervised.log
    assert supervised.log.count("\n") == 1
    assert supervised.process.poll() is None


def test_one_that_ends_by_itself_is_replaced_too(start: Start) -> None:
    supervised = start("finish")
    os.kill(supervised.ask(), signal.SIGTERM)
    wait_for(lambda: len(supervised.starts) == 2)
    assert supervised.ask() == supervised.starts[1]
    assert "the model server ended with status 0 after" in supervised.log


def test_while_it_is_replaced_it_is_told_as_silent_within_the_time_given(start: Start) -> None:
    supervised = between_two_starts(start)
    server = ServerProcess(supervised.process.pid, 0.0, *supervised.address, "7", "log")
    began = time.monotonic()
    assert not server.answers(0.2)
    assert time.monotonic() - began < 1


def test_one_that_refuses_its_first_start_is_given_up_with_its_status(start: Start) -> None:
    supervised = start("fail")
    assert supervised.process.wait(WAIT_S) == 3
    assert len(supervised.starts) == 1
    assert "ended with status 3" in supervised.log
    assert "was never ready: giving up" in supervised.log


def test_one_that_is_killed_at_its_first_starts_is_given_up(start: Start) -> None:
    supervised = start("die", first_pause_s=0.01)
    assert supervised.process.wait(WAIT_S) == 128 + signal.SIGKILL
    assert len(supervised.starts) == 3


def test_one_that_was_ready_once_is_never_given_up(start: Start) -> None:
    supervised = start("serve", first_pause_s=0.01, longest_pause_s=0.03)
    first = supervised.ask()
    supervised.behave("fail")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: len(supervised.starts) > 5)
    supervised.behave("serve")
    assert supervised.ask() == supervised.starts[-1]
    again = [line.rpartition("starting it again")[2] for line in supervised.log.splitlines()]
    assert again[:5] == ["", " in 0.01 s", " in 0.02 s", " in 0.03 s", " in 0.03 s"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish_and_ends_both(start: Start, number: signal.Signals) -> None:
    supervised = start("finish")
    pid = supervised.ask()
    model_server = psutil.Process(pid)
    supervised.process.send_signal(number)
    assert supervised.process.wait(WAIT_S) == 0
    assert not model_server.is_running()
    assert supervised.starts == [pid]
    with pytest.raises(ConnectionRefusedError):
        supervised.ask()


def test_a_signal_between_two_starts_ends_it_at_once(start: Start) -> None:
    supervised = between_two_starts(start)
    supervised.process.terminate()
    assert supervised.process.wait(WAIT_S) == 0


def test_one_that_does_not_finish_is_killed(start: Start) -> None:
    supervised = start("deaf", grace_s=0.2)
    model_server = psutil.Process(supervised.ask())
    supervised.process.terminate()
    assert supervised.process.wait(WAIT_S) == 0
    assert not model_server.is_running()
    assert "did not end within 0.2 s: killed" in supervised.log


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent")
def test_without_its_supervisor_it_ends_as_well(start: Start) -> None:
    supervised = start("serve")
    model_server = psutil.Process(supervised.ask())
    supervised.process.kill()
    supervised.process.wait()
    wait_for(lambda: not model_server.is_running() or model_server.status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(ConnectionRefusedError):
        supervised.ask()


def test_one_whose_supervisor_ended_before_it_was_ready_is_told() -> None:
    read, written = os.pipe()
    os.close(read)
    with pytest.raises(ServingError, match="the supervisor is gone"):
        tell_ready(written)
    os.close(written)


def test_it_is_small(start: Start) -> None:
    supervised = start("serve")
    supervised.ask()
    assert psutil.Process(supervised.process.pid).memory_info().rss < 30 * 2**20


@pytest.mark.parametrize(
    ("pause_s", "lived_s", "next_s"),
    [
        (None, 0, 0),
        (None, 3600, 0),
        (0, 59, 0.5),
        (0.5, 0, 1),
        (16, 0, 30),
        (30, 59.9, 30),
        (30, 60, 0),
    ],
)
def test_the_pause_doubles_until_one_lives_long(
    pause_s: float | None, lived_s: float, next_s: float
) -> None:
    assert Patience().pause_after(pause_s, lived_s) == next_s


def test_a_descriptor_that_is_no_socket_is_told(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "demand.serving.supervisor", tmp_path),
                *("--fd", str(file.fileno()), "--model-version", "7"),
            ],
            pass_fds=[file.fileno()],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: descriptor")
