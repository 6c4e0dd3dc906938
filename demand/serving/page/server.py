"""The page as a process: uvicorn in front of Gradio, and nothing that leaves the machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from demand.errors import ConfigError
from demand.serving.listening import listen
from demand.serving.page.client import Client
from demand.serving.page.source import Source
from demand.state import home

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

# Uploads and answers are deleted when they are so old, in seconds.
FILES_KEPT_S = 3600.0
_SWEPT_EVERY_S = 600.0
# No more is uploaded where they take more bytes than this.
FOLDER_MAX = 256 * 2**20
# Open pages hold connections that would never end by themselves.
_GRACE_S = 2
# Gradio's own scripts are inline and compile small functions; nothing may come from, or go
# to, another host.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class PagePlace:
    """Where the page listens, and what it asks.

    Parameters
    ----------
    host, port
        Where it listens.
    api
        URL of the Flask API or of an MLflow model server.
    links
        Names and URLs of dashboards, for the team.
    token
        Bearer token of the API, or None.
    access_log
        One line a request on standard error.
    """

    host: str
    port: int
    api: str
    links: tuple[tuple[str, str], ...] = ()
    token: str | None = None
    access_log: bool = True


def read_links(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read links that are written ``NAME=URL``.

    Raises
    ------
    ConfigError
        One has no name, or no URL of a site.
    """
    links = []
    for link in given:
        name, _, url = link.partition("=")
        if not name.strip() or urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(f"{link!r} is no link such as ZenML=http://127.0.0.1:8237")
        links.append((name.strip(), url))
    return tuple(links)


def serve_page(place: PagePlace) -> None:
    """Serve until a signal ends it.

    Raises
    ------
    ServingError
        The port is taken, or the host is not one of this machine.
    ConfigError
        The URL of the API is none.
    """
    client = Client(place.api, place.token)
    with listen(place.host, place.port) as listener, _files() as folder:
        bound = listener.getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        app = create_app(client, place.links, folder)
        import uvicorn

        config = uvicorn.Config(
            app,
            log_level="info" if place.access_log else "warning",
            access_log=place.access_log,
            timeout_graceful_shutdown=_GRACE_S,
            server_header=False,
        )
        print(
            f"the page is at http://{shown}:{bound[1]} and asks {client.root}",
            file=sys.stderr,
            flush=True,
        )
        # A signal has done its work when the server has ended.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def create_app(client: Client, links: Sequence[tuple[str, str]], folder: Path) -> FastAPI:
    """Return the page as an application, with ``GET /health`` beside it.

    Parameters
    ----------
    client
        Asks the API.
    links
        Names and URLs of dashboards.
    folder
        Where files of visitors lie for a while.
    """
    # Gradio reads these when it is imported.
    os.environ.update(_ENVIRONMENT, GRADIO_TEMP_DIR=str(folder))
    import gradio as gr
    from fastapi import FastAPI

    from demand.serving.page.application import MAX_UPLOAD, SCRIPT, create_page, style, theme

    for noisy in ("httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Guarded, folder=folder)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "alive"}

    mounted: FastAPI = gr.mount_gradio_app(
        app,
        create_page(Source(client), links, folder / "answers"),
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=style(),
        js=SCRIPT,
    )
    return mounted


class _Guarded:
    """Adds headers that keep the page to this host; takes no upload that finds no room."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app = app
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _is_upload(scope) and await asyncio.to_thread(size_of, self._folder) > FOLDER_MAX:
            refused = b"no room for more files just now"
            await guarded({"type": "http.response.start", "status": 507, "headers": []})
            await guarded({"type": "http.response.body", "body": refused})
        else:
            await self._app(scope, receive, guarded)


def _is_upload(scope: Scope) -> bool:
    path: str = scope["path"]
    return scope["method"] == "POST" and path.rstrip("/").endswith("/upload")


def size_of(folder: Path) -> int:
    """Return how many bytes the files below a folder take; some may vanish meanwhile."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += Path(place, name).lstat().st_size
    return size


@contextlib.contextmanager
def _files() -> Iterator[Path]:
    """Yield the folder of visitors' files, in which what is old is deleted."""
    root = home().root / "page"
    folder = root / str(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    ended = threading.Event()

    def sweep() -> None:
        while True:
            delete_old(root, time.time() - FILES_KEPT_S)
            if ended.wait(_SWEPT_EVERY_S):
                return

    sweeper = threading.Thread(target=sweep, name="sweeper", daemon=True)
    sweeper.start()
    try:
        yield folder
    finally:
        ended.set()
        sweeper.join(1)
        shutil.rmtree(folder, ignore_errors=True)


def delete_old(folder: Path, before: float) -> None:
    """Delete files that were written before a time, in seconds, and folders left empty."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(place, name)
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < before:
                    path.unlink()
        with contextlib.suppress(OSError):
            if Path(place).stat().st_mtime < before and Path(place) != folder:
                Path(place).rmdir()
