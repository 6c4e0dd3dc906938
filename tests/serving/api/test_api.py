"""The Flask application, asked through its test client."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from demand.model.predictor import Predictor
from demand.model.training import calibrate_intervals, calibrate_percentiles
from demand.production_log.store import ProductionLog
from demand.registry.model_files import Fact, Facts
from demand.registry.packaging import records
from demand.schema.columns import TARGET
from demand.schema.records import frame_from_records
from demand.serving.api.application import create_app
from demand.serving.api.model_provider import ModelProvider, ModelServerProxy, Serving
from demand.serving.api.server import ApiSettings
from demand.serving.api.telemetry import Telemetry
from demand.serving.http.server import DroppingHandler
from tests.ads_factory import make_ads
from tests.production_log.answered import FAR_AHEAD, LONG_AGO, production_log
from tests.served import wait_for
from tests.tiny_model import tiny_predictor

ADS = make_ads(300, seed=5)
AD = {"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}
LIMITS = ApiSettings(body_bytes=20_000, ads=5, batches=2, passed_on=2)


def written(lines: io.StringIO) -> list[dict[str, Any]]:
    """Return what the access log tells."""
    return [json.loads(line) for line in lines.getvalue().splitlines()]


class Held(ModelProvider):
    """Champions that are set by hand."""

    def __init__(self, serving: Serving | None, problem: str | None = None) -> None:
        self.serving = serving
        self.problem = problem


# Where no model server runs.
NOBODY = ModelServerProxy(lambda: None, patience_s=0.0)


@pytest.fixture(scope="module")
def model() -> Predictor:
    tiny = tiny_predictor()
    return calibrate_percentiles(calibrate_intervals(tiny, tiny, ADS), ADS)


def holding(model: Predictor) -> Held:
    return Held(Serving(model, "7", "abc", {"rmse": 0.24}, "2026-01-01T00:00:00+00:00"))


@pytest.fixture
def held(model: Predictor) -> Held:
    return holding(model)


@pytest.fixture(scope="module")
def described(model: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what schemathesis makes of the API's own description."""
    held = holding(model)
    log = production_log(tmp_path_factory.mktemp("log"))
    app = create_app(held, NOBODY, LIMITS, Telemetry(held), log)
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


def client_of(
    held: Held, chosen: ApiSettings = LIMITS, log: io.StringIO | None = None
) -> FlaskClient:
    telemetry = Telemetry(held, DroppingHandler(log) if log else None)
    return create_app(held, NOBODY, chosen, telemetry).test_client()


@pytest.fixture
def client(held: Held) -> FlaskClient:
    return client_of(held)


# What is passed through is the model server's own to answer.
GOOD, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
ROUTES = [
    ("/predict", "POST", GOOD),
    ("/predict", "POST", WRONG),
    ("/outcomes", "POST", GOOD),
    ("/outcomes", "POST", WRONG),
    ("/info", "GET", GOOD),
    ("/ready", "GET", GOOD),
    ("/market", "GET", GOOD),
    ("/card", "GET", GOOD),
    ("/metrics", "GET", GOOD),
]


@pytest.mark.parametrize(("path", "method", "mode"), ROUTES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_that_is_sent_breaks_the_api(
    described: Any, path: str, method: str, mode: GenerationMode, data: st.DataObject
) -> None:
    case = data.draw(described[path][method].as_strategy(generation_mode=mode))
    case.call_and_validate(
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ]
    )


def test_one_ad_is_answered_as_the_predictor_answers(client: FlaskClient, model: Predictor) -> None:
    found = client.post("/predict", json=AD).get_json()
    assert found["deal_probability"] == pytest.approx(model.predict_one(AD), abs=1e-9)
    low, high = model.interval(frame_from_records([AD]))
    assert found["interval"] == {"low": low[0], "high": high[0], "coverage": 0.8}
    assert 0.0 <= found["percentile"] <= 1.0
    assert found["model_version"] == "7"


def test_a_list_is_answered_in_its_order(client: FlaskClient, model: Predictor) -> None:
    asked = records(ADS.drop(columns=TARGET).head(5))
    found = client.post("/predict", json=asked).get_json()
    answers = [each["deal_probability"] for each in found]
    np.testing.assert_allclose(answers, model.predict(frame_from_records(asked)), atol=1e-9)


def test_a_model_without_intervals_says_so() -> None:
    held = Held(Serving(tiny_predictor(), "1", "", {}, "now"))
    found = client_of(held).post("/predict", json=AD).get_json()
    assert (found["interval"], found["percentile"]) == (None, None)


@pytest.mark.parametrize(
    ("body", "status", "members"),
    [
        ("{", 400, {}),
        ("", 400, {}),
        ("NaN", 400, {}),
        ('{"title": "a", "category_name": "b", "price": Infinity}', 400, {}),
        ("[" * 3000 + "]" * 3000, 413, {}),
        ("[]", 400, {}),
        ('"ad"', 422, {"row": 0}),
        ("[1]", 422, {"row": 0}),
        ('{"title": "a"}', 422, {"field": "category_name", "row": 0}),
        ('{"title": "a", "category_name": null}', 422, {"field": "category_name", "row": 0}),
        ('{"title": {"a": 1}, "category_name": "b"}', 422, {"field": "title"}),
        ('{"title": "a", "category_name": "b", "prise": 1}', 422, {"field": "prise"}),
        ('{"title": "a", "category_name": "b", "price": "1"}', 422, {"field": "price"}),
        ('{"title": "a", "category_name": "b", "price": true}', 422, {"field": "price"}),
        ('{"title": "a", "category_name": "b", "price": -1}', 422, {"field": "price"}),
        ('{"title": "a", "category_name": "b", "price": 1' + "0" * 400 + "}", 422, {}),
        ('{"title": "a\\u0000", "category_name": "b"}', 422, {"field": "title"}),
        ('{"title": "a\\ud800", "category_name": "b"}', 422, {"field": "title"}),
        ('[{"title": "a", "category_name": "b"}, {"title": "a"}]', 422, {"row": 1}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_ad_is_refused_with_field_and_row(
    client: FlaskClient, body: str, status: int, members: dict[str, object]
) -> None:
    found = client.post("/predict", data=body.encode(), content_type="application/json")
    problem = json.loads(found.data)
    assert found.status_code == status
    assert found.content_type == "application/problem+json"
    assert problem["status"] == status
    assert problem["detail"]
    assert members.items() <= problem.items()


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "", "multipart/form-data"]
)
def test_another_content_type_is_refused(client: FlaskClient, content_type: str) -> None:
    assert client.post("/predict", data=b"{}", content_type=content_type).status_code == 415


def test_a_compressed_body_is_refused(client: FlaskClient) -> None:
    headers = {"Content-Encoding": "gzip"}
    assert client.post("/predict", json=AD, headers=headers).status_code == 415


def test_a_body_that_is_too_large_is_refused(client: FlaskClient) -> None:
    assert client.post("/predict", json=AD | {"description": "ж" * 19_000}).status_code == 413


def test_too_many_ads_are_refused(client: FlaskClient) -> None:
    assert client.post("/predict", json=[AD] * 6).status_code == 413


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/predict", 405)])
def test_unknown_routes_are_problems_too(client: FlaskClient, path: str, status: int) -> None:
    found = client.get(path)
    assert (found.status_code, found.content_type) == (status, "application/problem+json")


def test_without_a_model_it_is_alive_but_not_ready() -> None:
    client = client_of(Held(None, "no model was promoted yet"))
    assert client.get("/health").status_code == 200
    for found in (client.get("/ready"), client.post("/predict", json=AD)):
        assert found.status_code == 503
        assert json.loads(found.data)["detail"] == "no model was promoted yet"
    assert client.get("/info").get_json()["model_version"] is None


def test_the_facts_of_the_champion_are_told(client: FlaskClient) -> None:
    about = client.get("/info").get_json()
    assert about["model_version"] == "7"
    assert about["metrics"] == {"rmse": 0.24}
    assert client.get("/ready").get_json()["model_version"] == "7"


@pytest.mark.parametrize("path", ["/market", "/card"])
def test_a_model_without_facts_says_so(client: FlaskClient, path: str) -> None:
    found = client.get(path)
    assert (found.status_code, found.content_type) == (404, "application/problem+json")
    assert "packaged without it" in json.loads(found.data)["detail"]


def test_the_market_and_the_card_of_what_answers_are_told(held: Held) -> None:
    lines = io.StringIO()
    client = client_of(held, log=lines)
    for version in ("8", "9"):
        card = json.dumps({"model_version": version}).encode()
        facts = Facts(Fact('{"имя": 1}'.encode()), Fact(card))
        held.serving = Serving(tiny_predictor(), version, "", {}, "now", facts)
        assert client.get("/card").get_json() == {"model_version": version}
        found = client.get("/market")
        assert (found.get_json(), found.content_type) == ({"имя": 1}, "application/json")
    assert [line["version"] for line in written(lines)] == ["8", "8", "9", "9"]


def test_a_value_that_the_model_has_not_learnt_from_is_told(held: Held) -> None:
    known = {"categories": [], "regions": [], "user_types": ["Private"]}
    known["categories"] = [{"name": AD["category_name"], "parent": "Личные вещи"}]
    market = Fact(json.dumps(known).encode())
    held.serving = Serving(tiny_predictor(), "8", "", {}, "now", Facts(market))
    odd = {**AD, "category_name": "Велосипды", "user_type": "Privat"}
    known_ad, unknown_ad = client_of(held).post("/predict", json=[AD, odd]).get_json()
    assert "unknown" not in known_ad
    assert unknown_ad["unknown"] == ["category_name", "user_type"]


@pytest.mark.parametrize("path", ["/market", "/card"])
def test_what_is_told_of_the_model_is_behind_the_token(held: Held, path: str) -> None:
    client = client_of(held, ApiSettings(token="secret"))
    assert client.get(path).status_code == 401
    assert client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 404


@pytest.mark.parametrize("path", ["/market", "/card"])
def test_without_a_model_there_is_nothing_to_tell(path: str) -> None:
    found = client_of(Held(None, "no model was promoted yet")).get(path)
    assert found.status_code == 503
    assert json.loads(found.data)["detail"] == "no model was promoted yet"


def test_metrics_count_requests_and_ads(client: FlaskClient) -> None:
    client.post("/predict", json=[AD, AD])
    client.post("/predict", data=b"x")
    text = client.get("/metrics").get_data(as_text=True)
    assert 'demand_requests_total{route="/predict",status="200"} 1.0' in text
    assert 'demand_requests_total{route="/predict",status="415"} 1.0' in text
    assert "demand_ads_total 2.0" in text
    assert 'demand_champion{version="7"} 1.0' in text


@pytest.mark.parametrize(
    ("given", "status"),
    [(None, 401), ("Bearer wrong", 401), ("Basic 0LHQsA==", 401), ("Bearer тайна", 401)],
)
def test_without_the_token_nothing_is_answered(held: Held, given: str | None, status: int) -> None:
    client = client_of(held, ApiSettings(token="secret"))
    headers = {"Authorization": given.encode().decode("latin-1")} if given else {}
    for found in (client.post("/predict", json=AD, headers=headers), client.get("/info")):
        assert found.status_code == status
        assert found.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/ready").status_code == 200


def test_the_token_opens(held: Held) -> None:
    client = client_of(held, ApiSettings(token="secret"))
    headers = {"Authorization": "Bearer secret"}
    assert client.post("/predict", json=AD, headers=headers).status_code == 200


def test_other_sites_may_ask_only_where_they_are_named(held: Held) -> None:
    named = client_of(held, ApiSettings(origins=("https://shop.example",)))
    allowed = "Access-Control-Allow-Origin"
    for client, origin, found in (
        (named, "https://shop.example", "https://shop.example"),
        (named, "https://other.example", None),
        (client_of(held), "https://shop.example", None),
    ):
        answer = client.post("/predict", json=AD, headers={"Origin": origin})
        assert answer.headers.get(allowed) == found


def test_every_answer_has_the_headers_of_a_careful_server(client: FlaskClient) -> None:
    for found in (client.get("/"), client.post("/predict", json=AD), client.get("/nothing")):
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in found.headers["Content-Security-Policy"]
        assert len(found.headers["X-Request-Id"]) == 32


@pytest.mark.parametrize(("given", "kept"), [("abc-1", True), ("a b", False), ("x" * 65, False)])
def test_the_id_of_a_request_is_kept_where_it_is_harmless(
    client: FlaskClient, given: str, kept: bool
) -> None:
    found = client.get("/health", headers={"X-Request-Id": given}).headers["X-Request-Id"]
    assert (found == given) is kept


def test_the_access_log_has_no_texts_and_no_ids_of_users(held: Held) -> None:
    lines = io.StringIO()
    client = client_of(held, log=lines)
    client.post("/predict?user=ivan", json=AD | {"description": "тайна", "user_id": "u-1"})
    (line,) = written(lines)
    assert (line["status"], line["ads"], line["version"]) == (200, 1, "7")
    assert not any(word in lines.getvalue() for word in ("ivan", "u-1", "Велосипед"))
    assert "тайна" not in lines.getvalue().encode().decode("unicode_escape")


def test_a_log_that_nobody_reads_stops_no_answer(held: Held) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    client = client_of(held, log=Gone())
    assert client.post("/predict", json=AD).status_code == 200


def test_a_model_that_fails_shows_no_traceback(held: Held) -> None:
    class Broken:
        def answer(self, _: object) -> Any:
            raise RuntimeError("deep inside")

    held.serving = Serving(Broken(), "8", "", {}, "now")  # type: ignore[arg-type]
    found = client_of(held).post("/predict", json=AD)
    assert found.status_code == 500
    assert "deep inside" not in found.get_data(as_text=True)
    assert json.loads(found.data)["request_id"] == found.headers["X-Request-Id"]


def test_the_page_names_every_route_and_field(client: FlaskClient) -> None:
    page = client.get("/").get_data(as_text=True)
    assert all(word in page for word in ("/predict", "/invocations", "item_seq_number"))
    assert "http://" not in page
    assert "https://" not in page


def logging_client(held: Held, log: ProductionLog) -> FlaskClient:
    return create_app(held, NOBODY, LIMITS, Telemetry(held), log).test_client()


def test_what_is_answered_is_logged_and_counted(held: Held, tmp_path: Path) -> None:
    log = production_log(tmp_path)
    client = logging_client(held, log)
    ad = AD | {"item_id": "i-1", "user_id": "u-1"}
    answers = client.post("/predict", json=[ad, AD], headers={"X-Request-Id": "r-1"}).get_json()
    client.post("/predict", json=AD, headers={"Demand-Probe": "all"})
    client.post("/predict", json={"title": "no ad"})
    wait_for(lambda: b"demand_log_written_total 3.0" in client.get("/metrics").data)
    assert b"demand_log_dropped_total 0.0" in client.get("/metrics").data
    entries = log.entries(LONG_AGO, FAR_AHEAD)
    assert entries["request_id"].tolist() == ["r-1", "r-1"]
    assert entries["item_id"].tolist() == ["i-1", None]
    assert entries["model_version"].tolist() == ["7", "7"]
    expected = [answer["deal_probability"] for answer in answers]
    assert entries["deal_probability"].tolist() == expected
    assert len(log.entries(LONG_AGO, FAR_AHEAD, probes=True)) == 3


def test_a_log_that_cannot_be_written_keeps_nobody_from_an_answer(
    held: Held, tmp_path: Path
) -> None:
    (tmp_path / "production_log").write_text("a file in the place of the folder")
    client = logging_client(held, production_log(tmp_path))
    assert client.post("/predict", json=AD).status_code == 200
    wait_for(lambda: b"demand_log_dropped_total 1.0" in client.get("/metrics").data)
    refused = client.post("/outcomes", json={"item_id": "i-1", "deal_probability": 1})
    assert refused.status_code == 503
    assert str(tmp_path) not in refused.get_data(as_text=True)


def test_outcomes_are_joined_to_answers(held: Held, tmp_path: Path) -> None:
    log = production_log(tmp_path, maturity_days=0)
    client = logging_client(held, log)
    asked = client.post("/predict", json=[AD, AD | {"item_id": "i-1"}, AD])
    request_id = asked.headers["X-Request-Id"]
    by_ad = client.post("/outcomes", json={"item_id": "i-1", "deal_probability": 1})
    by_answer = {"request_id": request_id, "row": 2, "deal_probability": 0.0}
    more = client.post("/outcomes", json=[by_answer | {"time": "2026-03-28T12:00:00Z"}])
    assert [each.get_json() for each in (by_ad, more)] == [{"accepted": 1}, {"accepted": 1}]
    wait_for(lambda: len(log.mature_entries(LONG_AGO, FAR_AHEAD)) == 3)
    outcomes = log.mature_entries(LONG_AGO, FAR_AHEAD)["outcome"]
    assert outcomes.fillna(-1).tolist() == [-1, 1, 0]


@pytest.mark.parametrize(
    ("reported", "status", "members"),
    [
        ([], 400, {}),
        ([{"item_id": "i-1", "deal_probability": 2}], 422, {"row": 0, "field": "deal_probability"}),
        ([{"item_id": "i-1", "deal_probability": 1}, 7], 422, {"row": 1}),
        ([{"item_id": "i-1", "deal_probability": 1}] * 6, 413, {}),
    ],
    ids=str,
)
def test_what_is_no_outcome_is_a_problem(
    held: Held, tmp_path: Path, reported: object, status: int, members: dict[str, object]
) -> None:
    client = logging_client(held, production_log(tmp_path))
    found = client.post("/outcomes", json=reported)
    problem = json.loads(found.data)
    assert (found.status_code, found.content_type) == (status, "application/problem+json")
    assert "outcome" in problem["detail"]
    assert members.items() <= problem.items()


def test_outcomes_want_the_token_and_a_log(held: Held) -> None:
    deal = {"item_id": "i-1", "deal_probability": 1}
    closed = client_of(held, ApiSettings(token="secret"))
    assert closed.post("/outcomes", json=deal).status_code == 401
    refused = client_of(held).post("/outcomes", json=deal)
    assert refused.status_code == 404
    assert "DEMAND_LOG_URL" in json.loads(refused.data)["detail"]
