import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cli.dashboard import (
    Server,
    connected_zenml_server,
    end_processes,
    mlflow_server,
    serve_together,
    zenml_server,
)
from demand.errors import ServingError, StateError
from demand.serving.http.server import LOOPBACK, free_port

SERVE = "from http.server import *; HTTPServer(('{host}', {port}), {handler}).serve_forever()"
SLEEP = "import time; time.sleep(300)"


@pytest.fixture(autouse=True)
def private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zen"))
    monkeypatch.delenv("ZENML_STORE_URL", raising=False)


def configure_zenml(folder: Path, text: str) -> None:
    (folder / "zen").mkdir()
    (folder / "zen" / "config.yaml").write_text(text, encoding="utf-8")


def test_a_zenml_that_was_never_used_is_connected_to_no_server():
    assert connected_zenml_server() is None


def test_a_zenml_with_its_own_database_is_connected_to_no_server(tmp_path: Path):
    configure_zenml(tmp_path, "store: {type: sql, url: 'sqlite:////tmp/zenml.db'}")

    assert connected_zenml_server() is None


def test_a_zenml_that_logged_in_to_a_server_is_connected_to_it(tmp_path: Path):
    configure_zenml(tmp_path, "store: {type: rest, url: 'https://zenml.example'}")

    assert connected_zenml_server() == "https://zenml.example"


def test_the_environment_outranks_the_configuration_as_in_zenml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    configure_zenml(tmp_path, "store: {type: sql, url: 'sqlite:////tmp/zenml.db'}")
    monkeypatch.setenv("ZENML_STORE_URL", "https://zenml.example")

    assert connected_zenml_server() == "https://zenml.example"


def test_a_damaged_configuration_is_left_to_zenml_to_complain_about(tmp_path: Path):
    configure_zenml(tmp_path, "store: [")

    assert connected_zenml_server() is None


def test_zenml_is_kept_from_writing_the_users_configuration():
    assert zenml_server(8237).environment["ZENML_SERVER"] == "true"


def test_mlflow_answers_only_to_loopback_names():
    options = mlflow_server(5000).command

    hosts = options[options.index("--allowed-hosts") + 1]
    assert hosts == "127.0.0.1:5000,localhost:5000"


def test_each_server_keeps_its_log_in_the_installation(tmp_path: Path):
    logs = {zenml_server(8237).log.parent, mlflow_server(5000).log.parent}

    assert logs == {tmp_path / "home" / "logs"}


def program(folder: Path, code: str, name: str = "sleeper", **settings: str) -> Server:
    command = (sys.executable, "-c", code)
    return Server(name, command, {}, folder / "logs" / f"{name}.log", **settings)


def web_server(folder: Path, path: str = "/", name: str = "the tiny server") -> Server:
    port = free_port(23400 + os.getpid() % 500)
    code = SERVE.format(host=LOOPBACK, port=port, handler="SimpleHTTPRequestHandler")
    return program(folder, code, name, health=f"http://{LOOPBACK}:{port}{path}")


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def pid_in(file: Path) -> int:
    """Wait for the process id that a program writes once it is ready."""
    wait_for(lambda: file.exists() and bool(file.read_text()))
    return int(file.read_text())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_healthy_servers_are_announced_and_ended_by_a_signal(tmp_path: Path, number: int) -> None:
    healthy = []
    server = web_server(tmp_path)

    def ready() -> None:
        healthy.append(server.is_healthy())
        os.kill(os.getpid(), number)

    serve_together([program(tmp_path, SLEEP), server], ready)

    assert healthy == [True]
    assert not server.is_healthy()


def test_a_proxy_of_the_environment_is_not_asked_about_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{LOOPBACK}:9")
    monkeypatch.delenv("no_proxy", raising=False)

    serve_together([web_server(tmp_path)], stop, start_s=30)


def test_an_error_status_is_not_healthy(tmp_path: Path) -> None:
    server = web_server(tmp_path, "/absent")

    with pytest.raises(ServingError, match=r"did not answer at http://127\S+/absent within 2 s"):
        serve_together([server], stop, start_s=2)


def test_a_stop_while_it_starts_ends_it_without_an_announcement(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"import os; open({str(pid)!r}, 'w').write(str(os.getpid())); {SLEEP}"
    killer = program(
        tmp_path,
        "import os, signal, time\n"
        f"while not (os.path.exists({str(pid)!r}) and os.path.getsize({str(pid)!r})):\n"
        "    time.sleep(0.05)\n"
        f"os.kill({os.getpid()}, signal.SIGINT)\n{SLEEP}",
        "killer",
    )
    never = f"http://{LOOPBACK}:{free_port(23400)}"
    announced: list[bool] = []

    serve_together(
        [program(tmp_path, code, "silent", health=never), killer], lambda: announced.append(True)
    )

    assert not announced
    assert not is_running(pid_in(pid))


def test_the_children_of_a_server_are_ended_too(tmp_path: Path) -> None:
    child = tmp_path / "child"
    code = (
        "import subprocess; child = subprocess.Popen(['sleep', '300']);"
        f"open({str(child)!r}, 'w').write(str(child.pid)); {SLEEP}"
    )
    serve_together([program(tmp_path, code)], lambda: (pid_in(child), stop()))

    assert not is_running(pid_in(child))


def test_a_server_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "pid"
    code = (
        "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(ready)!r}, 'w').write(str(os.getpid())); {SLEEP}"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    pid_in(ready)

    end_processes(lambda: [psutil.Process(process.pid)], grace_s=0.2)

    assert process.wait(10) in (-signal.SIGKILL, 0)  # psutil has taken note of it before
    assert not is_running(process.pid)


def test_a_server_that_ends_at_once_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    server = program(tmp_path, "import sys; sys.exit('no such database')", "the broken one")

    with pytest.raises(ServingError, match=r"(?s)the broken one ended: 1; its log.*such database"):
        serve_together([server], lambda: None)


def test_one_that_is_killed_is_named_with_the_signal_and_the_others_are_ended(
    tmp_path: Path,
) -> None:
    killed = tmp_path / "pid"
    code = f"import os; open({str(killed)!r}, 'w').write(str(os.getpid())); {SLEEP}"
    other = web_server(tmp_path)

    with pytest.raises(ServingError, match=r"sleeper was ended by SIGKILL; its log \S+ is empty"):
        serve_together(
            [program(tmp_path, code), other], lambda: os.kill(pid_in(killed), signal.SIGKILL)
        )

    assert not other.is_healthy()


def test_the_log_of_an_earlier_start_is_replaced(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "sleeper.log"
    for word in ("earlier", "later"):
        server = program(tmp_path, f"print({word!r}); {SLEEP}")
        serve_together([server], lambda: (wait_for(lambda: bool(log.read_text())), stop()))

    assert log.read_text() == "later\n"


def test_a_log_that_cannot_be_written_is_named_and_the_others_are_ended(tmp_path: Path) -> None:
    other = web_server(tmp_path)
    (tmp_path / "file").touch()

    with pytest.raises(StateError, match=r"cannot start sleeper, log .*/file/"):
        serve_together([other, program(tmp_path / "file", SLEEP)], stop)

    assert not other.is_healthy()
