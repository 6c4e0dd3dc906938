"""What somebody's shell says to libraries neither ends the page nor opens it to others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.page.test_client import Fake
from tests.security.page_server import Api, PageServer, serving_api, serving_page

pytestmark = pytest.mark.e2e
NOWHERE = "http://127.0.0.1:9"
# A page for each takes seconds to start: what does not hide the other stands together.
SHELLS = {
    "a SOCKS proxy, and exceptions that are none": {
        "ALL_PROXY": "socks5://127.0.0.1:9", "all_proxy": "socks5://127.0.0.1:9",
        "NO_PROXY": "[::1,*,http://[", "no_proxy": "[::1,*,http://[",
    },
    "a proxy, and certificates that are not there": {
        "HTTP_PROXY": NOWHERE, "http_proxy": NOWHERE,
        "HTTPS_PROXY": NOWHERE, "https_proxy": NOWHERE,
        "SSL_CERT_FILE": "/nowhere/ca.pem", "SSL_CERT_DIR": "/nowhere",
        "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem", "CURL_CA_BUNDLE": "/nowhere/ca.pem",
    },
    "a proxy that is none, a plotter, and warnings": {
        "HTTP_PROXY": "::", "HTTPS_PROXY": "not a URL",
        "MPLBACKEND": "nonsense", "MPLCONFIGDIR": "/nowhere",
        "PYTHONWARNINGS": "always", "PYTHONDEVMODE": "1",
    },
    "another Gradio": {
        "GRADIO_SERVER_PORT": "x", "GRADIO_NUM_PORTS": "x", "GRADIO_SERVER_NAME": "nowhere",
        "GRADIO_ROOT_PATH": "/elsewhere", "GRADIO_SHARE": "True", "GRADIO_DEBUG": "1",
        "GRADIO_ALLOWED_PATHS": "/", "GRADIO_BLOCKED_PATHS": "/", "GRADIO_TEMP_DIR": "/nowhere",
        "GRADIO_MCP_SERVER": "True", "GRADIO_SSR_MODE": "True", "GRADIO_NUM_WORKERS": "x",
        "GRADIO_ANALYTICS_MAX_EVENTS": "x", "GRADIO_DEFAULT_CONCURRENCY_LIMIT": "x",
    },
    "a developer's Gradio": {
        "GRADIO_WATCH_DIRS": "/", "GRADIO_VIBE_MODE": "1", "GRADIO_LOCAL_DEV_MODE": "1",
        "GRADIO_PROFILING": "1", "GRADIO_IS_E2E_TEST": "1", "GRADIO_HOT_RELOAD": "true",
    },
    "a Space of Hugging Face, and another server": {
        "SYSTEM": "spaces", "SPACE_ID": "a/b", "SPACE_HOST": "x", "HF_TOKEN": "x",
        "HF_ENDPOINT": "nowhere", "HF_HUB_OFFLINE": "0", "SPACES_ZERO_GPU": "true",
        "WEB_CONCURRENCY": "x", "FORWARDED_ALLOW_IPS": "*", "UVICORN_PORT": "x",
        "GRANIAN_PORT": "x", "GRANIAN_WORKERS": "x", "PORT": "x",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving_api() as started:
        yield started


@pytest.mark.parametrize("shell", SHELLS)
def test_the_page_is_the_same_from_any_shell(shell: str, api: Api, tmp_path: Path) -> None:
    with serving_page(api.url, tmp_path / "home", "--quiet", **SHELLS[shell]) as page:
        root = requests.get(page.url, timeout=10)
        assert root.status_code == 200
        assert "elsewhere" not in root.text
        _answers(page)
        assert page.fetch("/etc/hostname").status_code == 404
        assert page.fetch(__file__).status_code == 404
        assert "Traceback" not in page.log()
        assert "unexpected" not in page.log()


def test_an_api_elsewhere_is_asked_through_the_shells_proxy(fake: Fake, tmp_path: Path) -> None:
    proxy = {"HTTP_PROXY": fake.url, "http_proxy": fake.url}
    with serving_page("ads.example", tmp_path / "home", **proxy) as page:
        event = page.event("load")
        page.answer(event, page.values(event))
    assert "http://ads.example/info" in [path for path, _, _ in fake.asked]


def _answers(page: PageServer) -> None:
    event = page.event("click")
    values = page.values(event)
    kinds = [page.components[each]["props"].get("elem_id") for each in event["inputs"]]
    for name, value in {"title": "Стол", "category_name": "Мебель", "price": "100"}.items():
        values[kinds.index(f"field-{name}")] = value
    assert "25" in page.answer(event, values)
    content = "title,category_name\nСтол,Мебель и интерьер\n".encode()
    uploaded = page.upload("ads.csv", content).json()[0]
    marked = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
    assert "1 of 1 ads answered" in page.answer(page.event("upload"), ["en", marked])


def test_the_page_of_one_shell_runs_where_every_warning_is_an_error(
    api: Api, tmp_path: Path
) -> None:
    with serving_page(api.url, tmp_path / "home", "--quiet", PYTHONWARNINGS="error") as page:
        _answers(page)
