"""The Flask API as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from demand.serving.http.server import free_port
from demand.workspace.workspace import PROJECT_ROOT, Workspace
from tests.e2e.installation import AD

STARTS_S = 30


class Api:
    """A running ``demand api``; its output goes to ``log``."""

    def __init__(
        self, home: Workspace, log: Path, *, options: Sequence[str] = (), **variables: str
    ) -> None:
        self.port = free_port(25000 + os.getpid() % 2000)
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "cli.main", "api", "--port", str(self.port)]
        command += options
        environment = {**os.environ, "DEMAND_HOME": str(home.root), **variables}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=environment, stderr=output, stdout=output, cwd=PROJECT_ROOT
            )

    def wait(self, path: str, status: int) -> dict[str, Any]:
        """Ask until it answers with this status; return what it says."""
        deadline = time.monotonic() + STARTS_S
        while True:
            try:
                answer = requests.get(self.url + path, timeout=5)
                if answer.status_code == status:
                    return dict(answer.json())
            except requests.ConnectionError:
                pass
            assert time.monotonic() < deadline, path
            time.sleep(0.05)

    def version(self) -> str:
        """Return the version of the model that answers."""
        answer = requests.post(f"{self.url}/predict", json=AD, timeout=5)
        assert answer.status_code == 200
        return str(answer.json()["model_version"])

    def end(self) -> int:
        """Ask it to end; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)
