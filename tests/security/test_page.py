"""The page answers anybody who reaches its port: what they send is not what its form sends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.security.page_server import TOKEN, Api, PageServer, serving_api, serving_page

pytestmark = pytest.mark.e2e

SECRET = "what-only-this-machine-knows"
# What Gradio says of values, files and its own code.
ITS_WORDS = ("list of choices", "Traceback", "site-packages", "Cannot move", "not in the cache",
             "not allowed", "Invalid", "validation error", "InvalidPathError")  # fmt: skip
META = {"_type": "gradio.FileData"}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving_api() as started:
        yield started


@pytest.fixture(scope="module")
def page(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    home = tmp_path_factory.mktemp("home")
    with serving_page(api.url, home, "--quiet", "--allow-host", "ads.example") as started:
        yield started
        assert "Traceback" not in started.log()


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of this machine that the page could answer, were it asked to."""
    path = tmp_path_factory.mktemp("secret") / "ads.csv"
    path.write_text(f"item_id,title,category_name\n1,{SECRET},Мебель\n", encoding="utf-8")
    return path


# FILE, FOLDER, URL and UPLOADS stand for what is only known when the page is there.
FORGED: dict[str, Any] = {
    "path": {"path": "FILE"},
    "marked": {"path": "FILE", "meta": META},
    "in a list": [{"path": "FILE", "meta": META}],
    "in a dict": {"value": {"path": "FILE", "meta": META}},
    "update": {"__type__": "update", "value": {"path": "FILE", "meta": META}},
    "by file URL": {"path": "file://FILE", "url": "file://FILE", "meta": META},
    "by the page's URL": {"path": "/gradio_api/file=FILE", "meta": META},
    "URL beside it": {"path": "x.csv", "url": "/gradio_api/file=FILE", "meta": META},
    "by another server's URL": {"path": "URL", "url": "URL", "meta": META},
    "other server beside it": {"path": "x.csv", "url": "URL", "meta": META},
    "from the uploads up": {"path": "UPLOADS/../../../../../../../../FILE", "meta": META},
    "of a process": {"path": "/proc/self/environ", "meta": META},
    "a folder": {"path": "FOLDER", "meta": META},
    "the uploads": {"path": "UPLOADS", "meta": META},
    "a stream": {"path": "FILE", "is_stream": True, "meta": META},
}


def forged(form: str, secret: Path, url: str, page: PageServer) -> Any:
    text = json.dumps(FORGED[form])
    uploads = next((page.home / "page").iterdir())
    for name, path in {"FILE": secret, "FOLDER": secret.parent, "UPLOADS": uploads}.items():
        text = text.replace(name, str(path))
    return json.loads(text.replace("URL", url))


@pytest.mark.parametrize("form", FORGED)
def test_no_input_of_any_event_takes_a_file_of_the_machine(
    form: str, page: PageServer, api: Api, secret: Path
) -> None:
    value = forged(form, secret, f"{api.url}/taken", page)
    told = []
    assert len(page.events) > 10
    for event in page.events:
        for number in range(len(event["inputs"])):
            values = page.values(event)
            values[number] = value
            told.append(page.answer(event, values))
    for text in told:
        assert SECRET not in text
        assert TOKEN not in text
        assert not [words for words in ITS_WORDS if words in text], text
    for path in page.kept():
        assert SECRET.encode() not in path.read_bytes()
        assert TOKEN.encode() not in path.read_bytes()
    assert "/taken" not in api.asked


@pytest.mark.parametrize("field", ["event_data", "session_hash", "trigger_id", "event_id"])
def test_nothing_beside_the_inputs_takes_a_file_either(
    field: str, page: PageServer, secret: Path
) -> None:
    for event in page.events:
        marked = {"path": str(secret), "meta": META}
        found = page.post(event, page.values(event), **{field: marked})
        assert SECRET not in found.text
        assert field == "event_id" or found.status_code == 400
    assert not [path for path in page.kept() if SECRET.encode() in path.read_bytes()]


def test_an_upload_is_answered_and_its_answers_are_served(page: PageServer) -> None:
    content = "item_id,title,category_name\n1,Стол,Мебель и интерьер\n".encode()
    uploaded = page.upload("ads.csv", content).json()[0]
    told = page.answer(page.event("upload"), ["en", {"path": uploaded, "meta": META}])
    assert "1 of 1 ads answered" in told
    answers = next(path for path in page.kept() if path.name == "answers.csv")
    assert "0.25" in page.fetch(str(answers)).text


def test_every_stream_comes_to_its_end(page: PageServer) -> None:
    event = page.event("load")
    for _ in range(50):
        assert "close_stream" in page.answer(event, page.values(event))


def test_files_of_visitors_are_for_this_user_alone(page: PageServer) -> None:
    page.upload("ads.csv", b"title,category_name\n")
    root = page.home / "page"
    assert page.kept()
    for folder in (root, *root.iterdir()):
        assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "route",
    [
        "file=/etc/passwd", "file=/proc/self/environ", "file/etc/passwd", "file=C:/x",
        "file=cli/main.py", "file=.", "file=", "file=%2e%2e/%2e%2e/etc/passwd",
        "proxy=http://127.0.0.1/", "proxy=https://a.hf.space/x", "info", "info/", "openapi.json",
        "deep_link", "dev/reload", "user", "token", "login_check", "queue/status", "runs",
        "call/spoken/1", "upload_progress?upload_id=1", "startup-events", "vibe-code",
        "stream/a/b/1/playlist.m3u8", "stream/a/b/1/playlist-file", "profiling/traces",
        "custom_component/x/client/component/index.js", "mcp/", "run-history/buckets",
    ],
)  # fmt: skip
def test_routes_that_the_page_does_not_need_are_not_there(page: PageServer, route: str) -> None:
    found = requests.get(f"{page.url}/gradio_api/{route}", timeout=10)
    assert found.status_code == 404
    assert found.json() == {"detail": "Not Found"}


@pytest.mark.parametrize("route", ["monitoring", "monitoring/summary", "logout", "pwa_icon", "x"])
def test_nor_those_beside_them(page: PageServer, route: str) -> None:
    assert requests.get(f"{page.url}/{route}", timeout=10).json() == {"detail": "Not Found"}


@pytest.mark.parametrize(
    "route",
    ["call/spoken", "api/spoken", "component_server", "vibe-edit", "process_recording",
     "stream/1", "stream/1/close", "queue/join/", "call/v2/spoken", "undo-vibe-edit"],
)  # fmt: skip
def test_nor_those_that_are_posted_to(page: PageServer, route: str) -> None:
    body = {"data": ["en"], "component_id": 1, "session_hash": "a", "fn_name": "x"}
    found = requests.post(f"{page.url}/gradio_api/{route}", json=body, timeout=10)
    assert (found.status_code, found.json()) == (404, {"detail": "Not Found"})


def test_no_other_server_is_asked_for_a_file(page: PageServer, api: Api) -> None:
    assert page.fetch(f"{api.url}/fetched").status_code == 404
    assert "/fetched" not in api.asked


def test_no_method_but_those_of_the_page_is_answered(page: PageServer) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        for route in ("/", "/gradio_api/queue/join", "/gradio_api/upload"):
            found = requests.request(method, page.url + route, timeout=10)
            assert found.status_code in (404, 405)


@pytest.mark.parametrize(
    "body",
    [
        {"fn_index": "x"}, {"fn_index": -1}, {"fn_index": 10**9}, {"fn_index": 10**40},
        {"fn_index": [1]}, {"fn_index": None}, {"fn_index": True}, {"fn_index": 1.5},
        {"data": None}, {"data": "ru"}, {"data": []}, {"data": [1] * 1000}, {"data": {"a": 1}},
        {"session_hash": None}, {"session_hash": 1}, {"session_hash": "x" * 10_000},
        {"session_hash": "../a"}, {"event_data": [[[]]]}, {"trigger_id": "x"},
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"data": ' * 50_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", ["queue/join", "run/predict", "cancel", "reset"])
def test_a_body_that_is_none_is_refused_in_short(page: PageServer, route: str, body: Any) -> None:
    if isinstance(body, dict):
        if route in ("cancel", "reset"):
            body = {"event_id": next(iter(body.values()))}
        event = page.event("load")
        good = {"data": page.values(event), "fn_index": event["id"], "session_hash": "abc"}
        found = requests.post(f"{page.url}/gradio_api/{route}", json=good | body, timeout=10)
    else:
        found = requests.post(f"{page.url}/gradio_api/{route}", data=body, timeout=10)
    if not (route in ("cancel", "reset") and found.status_code == 200):
        assert found.status_code == 400
        assert found.headers["content-type"] == "application/json"
        assert len(found.content) < 200
        assert not [words for words in ITS_WORDS if words in found.text]


def test_an_unknown_session_has_no_stream(page: PageServer) -> None:
    for session in ("nobody", "", "x" * 5000):
        found = requests.get(
            f"{page.url}/gradio_api/queue/data", params={"session_hash": session}, timeout=10
        )
        assert (found.status_code, found.json()) == (404, {"detail": "Not Found"})


def test_a_value_that_no_list_has_is_taken_or_refused_in_short(page: PageServer) -> None:
    languages = 0
    for event in page.events:
        for number in range(len(event["inputs"])):
            if page.kind(event, number) != "radio":
                continue
            values = page.values(event)
            values[number] = "no choice"
            if page.choices(event, number) == ["ru", "en"]:
                assert page.post(event, values).status_code == 400
                languages += 1
            else:
                told = page.answer(event, values)
                assert "no choice" not in told
                assert not [words for words in ITS_WORDS if words in told], told
    assert languages > 5


def test_a_body_larger_than_any_form_is_refused(page: PageServer) -> None:
    event = page.event("click")
    values = page.values(event)
    values[2] = "ж" * 20_000
    assert page.post(event, values).status_code == 200
    values[2] = "x" * 2_000_000
    assert page.post(event, values).status_code == 413


def test_another_site_is_told_nothing(page: PageServer) -> None:
    port = page.url.rsplit(":", 1)[1]
    for host in (f"127.0.0.1:{port}", f"ads.example:{port}"):
        headers = {"Origin": "https://evil.example", "Host": host}
        asked = {**headers, "Access-Control-Request-Method": "POST"}
        answers = [
            requests.get(page.url, headers=headers, timeout=10),
            requests.options(f"{page.url}/gradio_api/upload", headers=asked, timeout=10),
        ]
        for found in answers:
            assert not [name for name in found.headers if name.lower().startswith("access-control")]


def test_a_body_without_a_length_is_bounded_too(page: PageServer) -> None:
    parts = (b"x" * 2**16 for _ in range(100))
    url = f"{page.url}/gradio_api/queue/join"
    with contextlib.suppress(requests.ConnectionError):  # refused while it was sent
        assert requests.post(url, data=parts, timeout=10).status_code == 413


@pytest.mark.parametrize("route", ["", "health", "config", "gradio_api/queue/data?session_hash=a"])
def test_only_its_own_names_and_those_allowed_are_answered(page: PageServer, route: str) -> None:
    for host, status in {"evil.example": 400, "127.0.0.1.evil.example": 400}.items():
        found = requests.get(f"{page.url}/{route}", headers={"Host": host}, timeout=10)
        assert found.status_code == status
    found = requests.get(page.url, headers={"Host": "ads.example"}, timeout=10)
    assert found.status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_another_site_uploads_nothing(page: PageServer, origin: str) -> None:
    before = page.kept()
    found = requests.post(
        f"{page.url}/gradio_api/upload",
        files={"files": ("ads.csv", b"title of another site")},
        headers={"Origin": origin},
        timeout=10,
    )
    assert found.status_code == 403
    assert page.kept() == before
    own = requests.get(page.url, headers={"Origin": page.url}, timeout=10)
    assert own.status_code == 200
