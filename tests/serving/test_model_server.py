from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from starlette.testclient import TestClient

from demand.errors import ModelError
from demand.registry.model_files import CARD_FILE, Fact, Facts
from demand.registry.packaging import EXAMPLE_ADS, save_model
from demand.schema.records import frame_from_records
from demand.serving.http.middleware import Hosts
from demand.serving.model_server import Limits, ModelServer, bounded, load_application
from tests.production_log.answered import FAR_AHEAD, LONG_AGO, production_log
from tests.serving.standin import LOADER, Standin

AD = {"title": "Стол письменный", "category_name": "Мебель и интерьер"}
OTHER = AD | {"price": 500, "description": "почти новый", "activation_date": "2017-03-28"}
EXPECTED = Standin().predict(frame_from_records([AD, OTHER])).tolist()


def asking(application: ModelServer, limits: Limits | None = None) -> TestClient:
    served = bounded(application, Hosts("127.0.0.1"), limits)
    return TestClient(served, base_url="http://localhost")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import mlflow.pyfunc

    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(Standin(), folder, frame_from_records(EXAMPLE_ADS), loader_module=LOADER)
    return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> ModelServer:
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(Standin(), folder, frame_from_records(EXAMPLE_ADS), loader_module=LOADER)
    return load_application(folder, "7")


@pytest.fixture(scope="module")
def client(application: ModelServer) -> Iterator[TestClient]:
    with asking(application) as client:
        yield client


def column(name: str) -> list[Any]:
    return [ad.get(name) for ad in (AD, OTHER)]


@pytest.mark.parametrize(
    "payload",
    [
        {"dataframe_records": [AD, OTHER]},
        {"instances": [AD, OTHER]},
        {"inputs": [AD, OTHER]},
        {"inputs": {name: column(name) for name in OTHER}},
        {
            "dataframe_split": {
                "columns": list(OTHER),
                "data": [[ad.get(name) for name in OTHER] for ad in (AD, OTHER)],
            }
        },
    ],
    ids=["records", "instances", "inputs-rows", "inputs-columns", "split"],
)
def test_each_form_of_request_is_answered(client: TestClient, payload: dict[str, Any]) -> None:
    answer = client.post("/invocations", json=payload)
    assert (answer.status_code, answer.json()) == (200, {"predictions": EXPECTED})


@pytest.mark.parametrize("price", [500, 500.5, None])
def test_a_price_may_be_whole_broken_or_null(client: TestClient, price: float | None) -> None:
    answer = client.post("/invocations", json={"inputs": [AD | {"price": price}]})
    assert answer.status_code == 200


def test_it_is_recognised_as_an_mlflow_model_server(client: TestClient) -> None:
    assert [client.get(path).status_code for path in ("/ping", "/health")] == [200, 200]
    assert client.get("/version").text.startswith("3.")
    assert client.get("/ping").headers["demand-model-version"] == "7"
    assert client.get("/invocations").status_code == 405


def test_csv_is_answered_as_mlflow_does(client: TestClient) -> None:
    text = pd.DataFrame([AD, OTHER]).to_csv(index=False)
    answer = client.post("/invocations", content=text, headers={"content-type": "text/csv"})
    assert (answer.status_code, answer.json()) == (200, {"predictions": EXPECTED})


def test_parquet_is_answered_as_mlflow_does(client: TestClient) -> None:
    buffer = io.BytesIO()
    pd.DataFrame([AD, OTHER]).to_parquet(buffer)
    kind = {"content-type": "application/vnd.apache.parquet"}
    answer = client.post("/invocations", content=buffer.getvalue(), headers=kind)
    assert (answer.status_code, answer.json()) == (200, {"predictions": EXPECTED})


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b'{"inputs": [{"title": "a"}]}', "application/json", 400, "category_name is missing"),
        (b'{"inputs": [{"colour": 1}]}', "application/json", 400, "'colour' is no column"),
        (b"{", "application/json", 400, "not valid JSON"),
        (b"\xff\xfe\xfd", "application/json", 400, "not valid JSON"),
        (b'{"inputs": NaN}', "application/json", 400, "NaN is no JSON number"),
        (b"[" * 100_000, "application/json", 400, "nested too deeply"),
        (b'{"inputs": %s}' % (b"9" * 5000), "application/json", 400, "not valid JSON"),
        (b"title,category_name,colour\na,b,c", "text/csv", 400, "'colour' is no column"),
        (b"title\na", "text/csv", 400, "category_name is missing"),
        (b"no parquet", "application/vnd.apache.parquet", 400, "Parquet"),
        (b"a", "text/html", 415, "content types"),
        (b"a", "", 415, "content types"),
    ],
)
def test_a_bad_request_gets_a_reason_and_no_traceback(
    client: TestClient, body: bytes, kind: str, status: int, words: str
) -> None:
    answer = client.post("/invocations", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert words in answer.json()["message"]
    assert set(answer.json()) == {"error_code", "message"}
    assert "Traceback" not in answer.text


def limited(model: Any, limits: Limits) -> TestClient:
    return asking(ModelServer(model, "7", limits), limits)


def test_a_body_beyond_the_limit_is_refused(model: Any) -> None:
    client = limited(model, replace(Limits(), body_bytes=100))
    answer = client.post("/invocations", json={"inputs": [OTHER]})
    assert (answer.status_code, answer.json()["message"]) == (413, "the body is over 100 bytes")


def test_too_many_ads_are_refused(model: Any) -> None:
    client = limited(model, replace(Limits(), ads=1))
    answer = client.post("/invocations", json={"inputs": [AD, AD]})
    assert answer.status_code == 413
    assert "2 ads in one request; at most 1" in answer.json()["message"]


class Fake:
    """What ``mlflow.pyfunc.load_model`` returns, around a predictor of the test's own."""

    def __init__(self, model: Any, predictor: Standin) -> None:
        self.metadata = model.metadata
        self._predictor = predictor

    def get_raw_model(self) -> Standin:
        return self._predictor


class Broken(Standin):
    def predict(self, _: pd.DataFrame) -> npt.NDArray[np.float64]:
        raise KeyError("secret")


class NotANumber(Standin):
    def predict(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        return np.full(len(frame), np.nan)


@pytest.mark.parametrize("predictor", [Broken(), NotANumber()])
def test_a_failing_model_is_a_500_without_details(model: Any, predictor: Standin) -> None:
    client = asking(ModelServer(Fake(model, predictor), "7"))
    answer = client.post("/invocations", json={"inputs": [AD]})
    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_the_market_and_the_card_are_told(model: Any) -> None:
    facts = Facts(Fact('{"имя": 1}'.encode()), Fact(b'{"model_version": "7"}'))
    client = asking(ModelServer(model, "7", facts=facts))
    for path, expected in (("/market", {"имя": 1}), ("/card", {"model_version": "7"})):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (200, expected)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["demand-model-version"] == "7"
        assert client.head(path).headers["content-length"] == answer.headers["content-length"]
        assert client.post(path, json={}).status_code in (404, 405)


def test_a_value_that_the_model_has_not_learnt_from_is_told(model: Any) -> None:
    known = {"name": AD["category_name"], "parent": "Для дома и дачи"}
    market = {"categories": [known], "regions": [], "user_types": []}
    client = asking(ModelServer(model, "7", facts=Facts(Fact(json.dumps(market).encode()))))
    odd = {**AD, "category_name": "Мебль"}
    answer = client.post("/invocations", json={"inputs": [AD, odd]}).json()
    assert len(answer["predictions"]) == 2
    assert answer["unknown"] == [{"ad": 1, "field": "category_name"}]


@pytest.mark.parametrize("path", ["/market", "/card"])
def test_a_model_without_facts_says_so(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json() == {
        "error_code": "RESOURCE_DOES_NOT_EXIST",
        "message": "the model that answers was packaged without it",
    }


def test_a_damaged_card_keeps_no_model_from_answering(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    market = {"format": 1}
    ads = frame_from_records(EXAMPLE_ADS)
    save_model(Standin(), folder, ads, market=market, loader_module=LOADER)
    (folder / CARD_FILE).parent.mkdir()
    (folder / CARD_FILE).write_text("no JSON")
    client = asking(load_application(folder, "7"))
    assert client.get("/market").json() == market
    assert client.get("/card").status_code == 404
    assert "damaged" in client.get("/card").json()["message"]
    assert client.post("/invocations", json={"inputs": [AD]}).status_code == 200


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_application(tmp_path, "7")


def test_what_is_answered_is_logged(model: Any, tmp_path: Path) -> None:
    log = production_log(tmp_path)
    writer = log.writer()
    client = asking(ModelServer(model, "7", log=writer))
    ads = [AD | {"item_id": "i-1"}, OTHER]
    named = client.post("/invocations", json={"inputs": ads}, headers={"X-Request-Id": "r-1"})
    unnamed = client.post("/invocations", json={"inputs": [AD]}, headers={"Demand-Probe": "all"})
    client.post("/invocations", json={"inputs": [{"title": "no ad"}]})
    client.get("/ping")
    writer.close()
    assert named.headers["X-Request-Id"] == "r-1"
    answered = log.entries(LONG_AGO, FAR_AHEAD)
    assert answered["request_id"].tolist() == ["r-1", "r-1"]
    assert answered["deal_probability"].tolist() == named.json()["predictions"]
    assert answered["item_id"].tolist() == ["i-1", None]
    every = log.entries(LONG_AGO, FAR_AHEAD, probes=True)
    assert every["request_id"].tolist() == ["r-1", "r-1", unnamed.headers["X-Request-Id"]]
