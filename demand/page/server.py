"""The page as a process: limits, a guard and Gradio, and nothing that leaves the machine."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from demand.errors import ConfigError
from demand.page.api import Client, Source
from demand.page.guard import FOLDER_MAX, HEADERS, Guard, body_limit
from demand.page.uploads import FILE_MB_MAX
from demand.serving.http.middleware import Hosts, RequestLimits
from demand.serving.http.server import serve
from demand.workspace.workspace import current_workspace

# All uploads that are on their way, and forms beside them.
_BODIES_AT_ONCE = FOLDER_MAX + 32 * 2**20
# Uploads and answers are deleted when they are so old, in seconds.
_FILES_KEPT_S, _SWEPT_EVERY_S = 3600.0, 600.0
# What libraries read when they are imported, and what the page has not asked for: somebody's
# shell must not open the page to others, or end it.
_FOREIGN = ("GRADIO_", "HF_", "HUGGINGFACE_", "SPACE_", "SPACES_", "OAUTH_", "UVICORN_", "GRANIAN_")
_FOREIGN_NAMES = ("SYSTEM", "MPLBACKEND", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
# Of the API's client alone, which has read them by then: what serves a page asks nobody else.
_OUTWARD = (
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy", "ssl_cert_file",
    "ssl_cert_dir", "sslkeylogfile",
)  # fmt: skip
ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def read_links(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read links that are written ``NAME=URL``; ConfigError: without a name, or URL of a site."""
    links = []
    for link in given:
        name, _, url = link.partition("=")
        if not name.strip() or urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(f"{link!r} is no link such as ZenML=http://127.0.0.1:8237")
        links.append((name.strip(), url))
    return tuple(links)


def serve_page(
    host: str,
    port: int,
    api: str,
    *,
    token: str | None = None,
    links: Sequence[tuple[str, str]] = (),
    access_log: bool = True,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve until a signal ends it.

    It asks the Flask API or MLflow model server at a URL, with a bearer token if there is one,
    shows the team names and URLs of dashboards, may be asked by the allowed names of hosts
    besides those of loopback, and logs one line a request on standard error.

    Raises
    ------
    ServingError
        The port is taken, or the host is not one of this machine.
    ConfigError
        The URL of the API is none.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("demand.page").setLevel("INFO" if access_log else "WARNING")
    hosts, client = Hosts(host, tuple(allowed_hosts)), Client(api, token)
    with visitors_folder() as folder:
        _prepare_environment(folder)
        page = create_app(client, links, folder)
        app = RequestLimits(page, hosts, body_limit, _refusal, _BODIES_AT_ONCE)
        announce = f"the page is at {{url}} and asks {client.root}"
        # A signal has done its work when the server has ended.
        with contextlib.suppress(KeyboardInterrupt):
            serve(lambda: app, host, port, lifespan=True, announce=announce)


def _refusal(_: int, reason: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    return [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS], reason.encode()


def create_app(client: Client, links: Sequence[tuple[str, str]], folder: Path) -> Guard:
    """Return the page as an application, with ``GET /health`` beside it.

    It links to dashboards by names and URLs; files of visitors lie in the folder for a while.
    """
    _prepare_environment(folder)
    with warnings.catch_warnings():
        # Of those that somebody made errors of none is about this page.
        warnings.simplefilter("ignore")
        import gradio as gr
        from fastapi import FastAPI

        from demand.page import application
    from starlette.middleware.cors import CORSMiddleware

    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # Where there is one, Gradio leaves it to that, which trusts no other site, at any host.
    app.add_middleware(CORSMiddleware)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "alive"}

    page = application.create_page(Source(client), links, folder / "answers")
    resources = files("demand.page")
    mounted = gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=f"{FILE_MB_MAX}mb",
        enable_monitoring=False,
        theme=application.theme(),
        css=resources.joinpath("style.css").read_text(encoding="utf-8"),
        js=resources.joinpath("script.js").read_text(encoding="utf-8"),
    )
    # Only then does Gradio look whether a path that it is sent is that of an upload. Its own
    # `launch` says so, which serves without limits; the lifespan says that it is running.
    page.has_launched = True
    return Guard(mounted, folder, application.inputs(page))


def _prepare_environment(folder: Path) -> None:
    """Take away what a shell says to libraries, which read it when they are imported."""
    for name in list(os.environ):
        foreign = name.startswith(_FOREIGN) or name in _FOREIGN_NAMES
        if foreign or name.lower() in _OUTWARD:
            del os.environ[name]
    os.environ.update(ENVIRONMENT, GRADIO_TEMP_DIR=str(folder))


@contextlib.contextmanager
def visitors_folder() -> Iterator[Path]:
    """Yield the folder of visitors' files, which nobody else may read; old ones are deleted."""
    root, owner = current_workspace().root / "page", os.getpid()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{owner}-", dir=root))

    def sweep() -> None:
        while folder.exists():
            # Empty for an hour, it would go with what was left by others.
            with contextlib.suppress(OSError):
                os.utime(folder)
            delete_old(root, time.time() - _FILES_KEPT_S)
            time.sleep(_SWEPT_EVERY_S)

    threading.Thread(target=sweep, name="sweeper", daemon=True).start()
    try:
        yield folder
    finally:
        # Not with a worker that was forked from this process.
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


def delete_old(folder: Path, before: float) -> None:
    """Delete files that were written before a time, in seconds, and folders left empty."""
    for parent, folders, names in os.walk(folder, topdown=False):
        for path in (Path(parent, name) for name in (*names, *folders)):
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < before:
                    (Path.rmdir if path.is_dir() else Path.unlink)(path)
