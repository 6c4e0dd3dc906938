"""What is uploaded to the page finds a bounded room, however it comes."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from demand.page.guard import FOLDER_MAX, UPLOAD_BYTES
from tests.security.page_server import PageServer, serving_page

pytestmark = pytest.mark.e2e
NOBODY = "http://127.0.0.1:1"
BOUNDARY = "part-of-a-test"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with serving_page(NOBODY, tmp_path_factory.mktemp("home"), "--quiet") as started:
        yield started


def begun(page: PageServer, size: int) -> socket.socket:
    """Begin an upload of a size, of which only the first lines are sent."""
    port = int(page.url.rsplit(":", 1)[1])
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {size}\r\n\r\n--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="files"; filename="ads.csv"\r\n\r\ntitle'
    )
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(head.encode())
    return connection


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def test_an_upload_takes_its_room_before_it_comes(page: PageServer) -> None:
    with ExitStack() as connections:
        for count in range(1, 5):
            connections.enter_context(begun(page, 60 * 2**20))
            assert until(lambda wanted=count: len(page.kept()) >= wanted)  # type: ignore[misc]
        late = connections.enter_context(begun(page, 60 * 2**20))
        assert late.recv(100).startswith(b"HTTP/1.1 507")
        assert page.upload("ads.csv", b"small").status_code == 200
    # What broke off has left nothing, and its room is free again.
    assert until(lambda: not [path for path in page.kept() if path.name != "ads.csv"])
    with begun(page, 60 * 2**20) as another:
        another.settimeout(0.5)
        with pytest.raises(TimeoutError):
            another.recv(100)


def test_many_uploads_at_once_stay_within_the_folders_bound(page: PageServer) -> None:
    size = 40 * 2**20
    barrier = threading.Barrier(10)

    def upload(_: int) -> int:
        content = secrets.token_bytes(2**20) * (size // 2**20)
        barrier.wait(60)
        try:
            return page.upload("ads.csv", content).status_code
        except requests.ConnectionError:
            return 507  # refused before all of it was sent

    with ThreadPoolExecutor(10) as threads:
        found = list(threads.map(upload, range(10)))
    assert set(found) <= {200, 507}
    assert 1 <= found.count(200) <= FOLDER_MAX // size
    assert sum(path.stat().st_size for path in page.kept()) <= FOLDER_MAX
    for path in page.kept():
        path.unlink()


@pytest.mark.parametrize("files", [2, 8])
def test_one_file_is_uploaded_at_a_time(page: PageServer, files: int) -> None:
    before = page.kept()
    parts = [("files", (f"{number}.csv", f"title{number}")) for number in range(files)]
    found = requests.post(f"{page.url}/gradio_api/upload", files=parts, timeout=10)
    assert found.status_code == 400
    assert len(found.content) < 100
    assert page.kept() == before


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/csv"}, b"title", 400),
        ({"Content-Type": "multipart/form-data"}, b"title", 400),
        ({"Content-Type": "multipart/form-data; boundary=a"}, b"title", 400),
        ({"Content-Type": "multipart/form-data; boundary=a"}, b"--a\r\n\r\nx\r\n--a--", 400),
        ({"Content-Type": "multipart/form-data; boundary=" + "a" * 5000}, b"x", 400),
        ({"Content-Type": "multipart/form-data; boundary=a", "Content-Length": "x"}, b"x", 400),
        ({"Content-Type": "multipart/form-data; boundary=a"}, iter([b"--a"]), 411),
    ],
)
def test_what_is_no_upload_is_refused_in_short(
    page: PageServer, headers: dict[str, str], body: bytes, status: int
) -> None:
    before = page.kept()
    url = f"{page.url}/gradio_api/upload"
    found = requests.post(url, data=body, headers=headers, timeout=10)
    assert found.status_code == status
    assert len(found.content) < 100
    assert page.kept() == before
    assert "Traceback" not in page.log()


def test_a_file_that_is_too_large_is_refused_before_it_comes(page: PageServer) -> None:
    with begun(page, UPLOAD_BYTES + 1) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("name", ["../../escaped.csv", "/var/escaped.csv", "a\x00b.csv", "..", ""])
def test_a_file_cannot_say_where_it_is_kept(page: PageServer, name: str, tmp_path: Path) -> None:
    found = page.upload(name, f"title {name!r}".encode())
    if found.status_code == 200:
        kept = Path(found.json()[0])
        assert kept.resolve().is_relative_to(page.home.resolve() / "page")
        assert kept.parent.parent.parent == page.home / "page"
