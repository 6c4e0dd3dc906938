"""`demand ui` as a process, an API that it asks, and what somebody without a browser sends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from demand.serving.http.server import free_port
from demand.workspace.workspace import PROJECT_ROOT

TOKEN = "a-token-that-nobody-may-see"
STARTS_S = 60
WAIT_S = 20


class Api(ThreadingHTTPServer):
    """Answers 0.25 to every ad, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        known = self.path == "/info"
        self._answer(200 if known else 404, {"model_version": "7"} if known else {})

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        ads = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(200, [{"deal_probability": 0.25} for _ in ads])

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class PageServer:
    """`demand ui`, and the events of its page."""

    def __init__(self, url: str, home: Path, log: Path) -> None:
        self.url = url
        self.home = home
        self._log = log
        found = requests.get(f"{url}/config", timeout=WAIT_S).json()
        self.components = {each["id"]: each for each in found["components"]}
        self.events = [each for each in found["dependencies"] if each["backend_fn"]]

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def event(self, kind: str) -> Any:
        """Return the first event of a kind: load, click, upload, …"""
        return next(e for e in self.events if any(t[1] == kind for t in e["targets"]))

    def values(self, event: Any) -> list[Any]:
        """Return what a page on which nobody did anything sends."""
        return [self.components[each]["props"].get("value") for each in event["inputs"]]

    def kind(self, event: Any, number: int) -> str:
        return str(self.components[event["inputs"][number]]["type"])

    def choices(self, event: Any, number: int) -> list[str]:
        props = self.components[event["inputs"][number]]["props"]
        return [value for _, value in props["choices"]]

    def post(self, event: Any, values: Sequence[Any], **more: Any) -> requests.Response:
        """Send an event as the page does."""
        route = "queue/join" if event["queue"] else "run/predict"
        body = {"data": list(values), "fn_index": event["id"], "session_hash": "a1b2c3", **more}
        return requests.post(f"{self.url}/gradio_api/{route}", json=body, timeout=WAIT_S)

    def answer(self, event: Any, values: Sequence[Any]) -> str:
        """Send an event; return all that is answered, and streamed until the event has ended."""
        found = self.post(event, values)
        if found.status_code != 200 or not event["queue"]:
            return found.text
        return found.text + self.streamed("a1b2c3")

    def streamed(self, session: str) -> str:
        params = {"session_hash": session}
        url = f"{self.url}/gradio_api/queue/data"
        return requests.get(url, params=params, timeout=WAIT_S).content.decode()

    def upload(self, name: str, content: bytes) -> requests.Response:
        files = {"files": (name, content)}
        return requests.post(f"{self.url}/gradio_api/upload", files=files, timeout=WAIT_S)

    def fetch(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}/gradio_api/file={path}", timeout=WAIT_S)

    def kept(self) -> list[Path]:
        """Return the files of visitors."""
        return [path for path in (self.home / "page").rglob("*") if path.is_file()]


@contextmanager
def serving_api() -> Iterator[Api]:
    api = Api()
    thread = threading.Thread(target=api.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.shutdown()
        api.server_close()
        thread.join(5)


@contextmanager
def serving_page(api: str, home: Path, *arguments: str, **variables: str) -> Iterator[PageServer]:
    """Start `demand ui`, wait until it answers, and end it."""
    port = free_port(35000 + os.getpid() % 2000)
    log = home / "ui.log"
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cli.main", "ui", "--api", api, "--port", str(port)]
    known = {"DEMAND_HOME": str(home), "DEMAND_API_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *arguments], env={**os.environ, **known, **variables},
            stdout=output, stderr=output, cwd=PROJECT_ROOT,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + STARTS_S
        while not _answers(url):
            told = log.read_text(encoding="utf-8")
            assert process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.1)
        yield PageServer(url, home, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _answers(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(f"{url}/health", timeout=5).status_code == 200
        except requests.RequestException:
            return False
