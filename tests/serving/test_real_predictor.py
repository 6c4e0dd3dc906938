"""The Predictor itself, packaged and served: the same number at every door."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from demand.config import FeatureSettings, TrainingSettings
from demand.features.feature_set import build_features
from demand.model.predictor import Predictor
from demand.model.training import train
from demand.registry.packaging import EXAMPLE_ADS, records, save_model
from demand.schema.records import frame_from_records
from demand.serving.model_server import ModelServer, load_application
from tests.ads_factory import make_ads

ADS = make_ads(40, seed=2).drop(columns="deal_probability")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    features = build_features(make_ads(400), make_ads(80, seed=1), FeatureSettings(), 1)
    settings = TrainingSettings(hidden=[8], epochs_max=1, threads=1)
    return train(features, settings, seed=1).predictor


@pytest.fixture(scope="module")
def folder(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(predictor, folder, ADS)
    return folder


@pytest.fixture(scope="module")
def application(folder: Path) -> ModelServer:
    return load_application(folder, "1")


def test_mlflow_gives_the_predictors_answers(predictor: Predictor, folder: Path) -> None:
    plain = pd.DataFrame(records(ADS)).astype(
        dict.fromkeys(("price", "item_seq_number", "image_top_1"), float)
    )
    served = mlflow.pyfunc.load_model(str(folder)).predict(plain)
    np.testing.assert_allclose(served, predictor.predict(ADS), rtol=0, atol=1e-12)


def columns_of(ads: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [ad[name] for ad in ads] for name in ads[0]}


@pytest.mark.parametrize("form", ["dataframe_records", "instances", "inputs", "dataframe_split"])
def test_every_form_gives_the_predictors_answers(
    predictor: Predictor, application: ModelServer, form: str
) -> None:
    ads: Any = records(ADS)
    if form == "dataframe_split":
        ads = {"columns": list(ads[0]), "data": [list(ad.values()) for ad in ads]}
    answer = TestClient(application).post("/invocations", json={form: ads})  # type: ignore[arg-type]
    served = answer.json()["predictions"]
    np.testing.assert_allclose(served, predictor.predict(ADS), rtol=0, atol=1e-12)


def test_an_ad_with_title_and_category_only_is_answered(
    predictor: Predictor, application: ModelServer
) -> None:
    ad = {"title": "Стол", "category_name": "Мебель и интерьер"}
    answer = TestClient(application).post("/invocations", json={"inputs": [ad]})  # type: ignore[arg-type]
    assert answer.json()["predictions"] == pytest.approx([predictor.predict_one(ad)], abs=1e-12)


def test_threads_at_once_get_the_same_answers(predictor: Predictor) -> None:
    expected = predictor.predict(ADS)
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(predictor.predict(ADS))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    for given in answers:
        np.testing.assert_array_equal(given, expected)


def test_the_example_is_an_ad_of_known_categories(predictor: Predictor) -> None:
    from demand.schema.population import reference

    for ad in EXAMPLE_ADS:
        assert ad["category_name"] in reference().category_counts
    assert np.isfinite(predictor.predict(frame_from_records(EXAMPLE_ADS))).all()
