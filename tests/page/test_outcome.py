from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from demand.page.api import Client, Source, Trouble
from demand.page.application import Handlers
from demand.page.layout import FIELDS, Layout
from demand.page.views import LANGUAGES, Language
from tests.page.test_client import FULL, Fake

VALUES = [{"title": "Часы", "category_name": "Часы"}.get(name) for name in FIELDS]


@pytest.fixture
def handlers(fake: Fake, tmp_path: Path) -> Handlers:
    with gr.Blocks(analytics_enabled=False):
        layout = Layout()
    return Handlers(Source(Client(fake.url)), layout, (), tmp_path)


def posted(fake: Fake) -> list[dict[str, Any]]:
    return [json.loads(body) for path, _, body in fake.asked if path == "/outcomes"]


def test_an_outcome_names_the_request_and_its_time(fake: Fake) -> None:
    fake.replies = {"/outcomes": [(200, {"accepted": 1})]}
    client = Client(fake.url, "s3cret")
    client.report("r-1", sold=True)
    client.report("r-1", sold=False)
    first, second = posted(fake)
    assert (first["request_id"], first["deal_probability"]) == ("r-1", 1.0)
    assert (second["request_id"], second["deal_probability"]) == ("r-1", 0.0)
    times = [datetime.datetime.fromisoformat(each["time"]) for each in (first, second)]
    assert times[0].utcoffset() == datetime.timedelta(0)
    assert times[0] < times[1]
    assert fake.asked[0][1]["Authorization"] == "Bearer s3cret"


def test_an_outcome_that_is_told_again_keeps_the_time_of_the_click(fake: Fake) -> None:
    fake.replies = {"/outcomes": [(503, {}), (200, {"accepted": 1})]}
    Client(fake.url).report("r-1", sold=True)
    first, second = posted(fake)
    assert first == second


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, "no_outcomes"), (405, "no_outcomes"), (401, "denied"), (422, "refused"), (503, "busy")],
)
def test_why_an_outcome_was_not_kept_has_a_name(fake: Fake, status: int, kind: str) -> None:
    fake.replies = {"/outcomes": [(status, {"detail": "said"})]}
    with pytest.raises(Trouble) as caught:
        Client(fake.url).report("r-1", sold=True)
    assert caught.value.kind == kind


def test_the_page_says_thanks_and_what_was_kept(fake: Fake, handlers: Handlers) -> None:
    fake.replies = {"/outcomes": [(200, {"accepted": 1})]}
    assert "Kept: “Sold”" in handlers.ended(True, "en", "r-1")
    assert "Записано: «Не продано»" in handlers.ended(False, "ru", "r-1")
    assert [each["deal_probability"] for each in posted(fake)] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "does not keep"), (401, "needs a key"), (422, "did not take"), (503, "too busy")],
)
def test_the_page_says_why_an_outcome_was_not_kept(
    fake: Fake, handlers: Handlers, status: int, words: str
) -> None:
    fake.replies = {"/outcomes": [(status, {"detail": "said"})]}
    told = handlers.ended(True, "en", "r-1")
    assert 'role="alert"' in told
    assert "Not kept." in told
    assert words in told


def test_the_page_says_that_nobody_is_there(tmp_path: Path, handlers: Handlers) -> None:
    away = Handlers(Source(Client("http://127.0.0.1:1")), handlers.page, (), tmp_path)
    assert "cannot be reached" in away.ended(True, "en", "r-1")


@pytest.mark.parametrize("language", LANGUAGES)
def test_of_an_answer_that_is_forgotten_nothing_is_reported(
    fake: Fake, handlers: Handlers, language: Language
) -> None:
    assert 'role="alert"' in handlers.ended(True, language, None)
    assert fake.asked == []


@pytest.mark.parametrize(
    ("replies", "request_id"),
    [
        ({"/info": [(200, {"model_version": "4"})], "/predict": [(200, [FULL])]}, "r-1"),
        ({"/ping": [(200, b"\n")], "/invocations": [(200, {"predictions": [0.5]})]}, None),
    ],
    ids=["flask", "mlflow"],
)
def test_only_an_answer_of_the_flask_api_can_be_told_its_outcome(
    fake: Fake,
    handlers: Handlers,
    replies: dict[str, list[tuple[int, Any]]],
    request_id: str | None,
) -> None:
    # Its variants are refused, so that the ad is asked about alone.
    fake.replies = replies
    route = "/predict" if "/predict" in replies else "/invocations"
    replies[route].insert(0, (422, {"detail": "no good", "row": 1}))
    page, updates = handlers.page, handlers.asked("en", *VALUES)
    assert updates[page.result].answer.probability == 0.5
    assert updates[page.request_id] == request_id
    assert updates[page.outcome]["visible"] is (request_id is not None)
    assert updates[page.outcome_note] == ""


def test_without_an_answer_there_is_nothing_to_press(handlers: Handlers) -> None:
    updates = handlers.spoken("en", None, None, False)
    assert updates[handlers.page.outcome]["visible"] is False
    assert updates[handlers.page.sold]["value"] == "Sold"
    assert updates[handlers.page.not_sold]["value"] == "Not sold"
