import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from demand.dashboard.local_server import LOOPBACK, LocalServer, answers, free_port
from demand.errors import ServingError

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return
    status = 200 if scope["path"] == "/health" else 404
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""
PORT = 23400


def never(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@pytest.fixture
def server(tmp_path: Path):
    (tmp_path / "tiny.py").write_text(APP, encoding="utf-8")
    server = LocalServer(
        name="the tiny server",
        module=("-m", "uvicorn", "tiny:app", "--app-dir", str(tmp_path)),
        environment={},
        port=free_port(PORT),
        health_path="/health",
        log=tmp_path / "logs" / "tiny.log",
    )
    yield server
    server.stop()


def failing(tmp_path: Path, code: str) -> LocalServer:
    return LocalServer("the broken one", ("-c", code), {}, free_port(PORT), "/", tmp_path / "log")


def test_a_free_port_is_kept():
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]

    assert free_port(port) == port


def test_a_taken_port_gives_the_next_free_one():
    with socket.socket() as taken:
        taken.bind((LOOPBACK, free_port(PORT)))
        taken.listen()

        assert free_port(taken.getsockname()[1]) > taken.getsockname()[1]


def test_a_started_server_answers_where_it_says(server: LocalServer):
    server.start()

    assert server.wait_until_ready(60, never)
    assert answers(server.port, "/health")


def test_an_error_status_is_no_answer(server: LocalServer):
    server.start()
    server.wait_until_ready(60, never)

    assert not answers(server.port, "/absent")


def test_a_stopped_server_answers_no_more(server: LocalServer):
    server.start()
    server.wait_until_ready(60, never)

    server.stop()

    assert not answers(server.port, "/health")


def test_stopping_ends_the_children_of_the_server_too(tmp_path: Path):
    child = tmp_path / "child"
    code = (
        "import subprocess, sys, time; p = subprocess.Popen(['sleep', '300']);"
        f"open({str(child)!r}, 'w').write(str(p.pid)); time.sleep(300)"
    )
    parent = failing(tmp_path, code)
    parent.start()
    deadline = time.monotonic() + 30
    while not (child.exists() and child.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    parent.stop()

    pid = int(child.read_text())
    _, alive = psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], 5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_server_that_ignores_the_request_to_end_is_forced(tmp_path: Path):
    ready = tmp_path / "ready"
    stubborn = failing(
        tmp_path,
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(ready)!r}, 'w'); time.sleep(300)",
    )
    stubborn.start()
    deadline = time.monotonic() + 30
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    stubborn.stop(timeout_s=0.2)

    assert stubborn.process is not None
    assert stubborn.process.returncode == -signal.SIGKILL


def test_a_server_that_ends_at_once_is_named_with_the_end_of_its_log(tmp_path: Path):
    broken = failing(tmp_path, "import sys; sys.exit('no such database')")
    broken.start()

    with pytest.raises(ServingError, match=r"(?s)the broken one ended: 1.*no such database"):
        broken.wait_until_ready(60, never)


def test_a_killed_server_is_named_with_the_signal(server: LocalServer):
    server.start()
    server.wait_until_ready(60, never)
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()

    with pytest.raises(ServingError, match="the tiny server was ended by SIGKILL"):
        server.raise_if_ended()


def test_a_silent_server_is_an_error_after_its_time(tmp_path: Path):
    silent = failing(tmp_path, "import time; time.sleep(300)")
    silent.start()

    with pytest.raises(ServingError, match=r"did not answer at http://127.0.0.1:\d+ within 0.3 s"):
        silent.wait_until_ready(0.3, never)
    silent.stop()


def test_waiting_ends_early_when_it_is_interrupted(tmp_path: Path):
    silent = failing(tmp_path, "import time; time.sleep(300)")
    silent.start()

    assert not silent.wait_until_ready(60, bool)
    silent.stop()
