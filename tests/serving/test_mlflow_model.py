from __future__ import annotations

import importlib.metadata
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import yaml

from demand.ingestion.records import frame_from_records
from demand.serving.mlflow_model import (
    EXAMPLE_ADS,
    log_model,
    records,
    requirements,
    sample_ads,
    save_model,
)
from demand.serving.tracking import mlflow_client, start_run
from demand.state import Home
from tests.ads_factory import make_ads
from tests.serving.standin import LOADER, Standin


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(
        Standin(), folder, make_ads(30).drop(columns="deal_probability"), loader_module=LOADER
    )
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(str(folder))


def test_nothing_in_the_model_is_a_pickle(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".yaml", ".txt", ".safetensors", ""}
    assert not any(path.read_bytes().startswith(b"\x80") for path in files)


def test_the_signature_demands_title_and_category_only(model: mlflow.pyfunc.PyFuncModel) -> None:
    schema = model.metadata.get_input_schema()
    assert sorted(schema.required_input_names()) == ["category_name", "title"]
    assert len(schema.input_names()) == 17


def test_requirements_are_pinned_to_what_is_installed() -> None:
    pinned = dict(line.split("==") for line in requirements())
    assert pinned["mlflow"] == importlib.metadata.version("mlflow")
    assert not any("+" in version for version in pinned.values())


def test_the_model_answers_as_the_predictor_does(
    folder: Path, model: mlflow.pyfunc.PyFuncModel
) -> None:
    ads = make_ads(30).drop(columns="deal_probability")
    plain = pd.DataFrame(records(ads))
    for name in ("price", "item_seq_number", "image_top_1"):
        plain[name] = plain[name].astype(float)
    np.testing.assert_array_equal(model.predict(plain), Standin().predict(ads))


def test_the_input_example_is_answered(folder: Path, model: mlflow.pyfunc.PyFuncModel) -> None:
    expected = Standin().predict(frame_from_records(EXAMPLE_ADS[:1]))
    np.testing.assert_allclose(model.predict(model.input_example), expected)


def test_sample_ads_are_kept_with_the_predictors_answers(folder: Path) -> None:
    ads, answers = sample_ads(folder)
    assert len(ads) == 30
    np.testing.assert_array_equal(Standin().predict(frame_from_records(ads)), answers)


def test_a_wrong_value_is_named_to_users_of_plain_mlflow(
    model: mlflow.pyfunc.PyFuncModel,
) -> None:
    frame = pd.DataFrame([{"title": "a", "category_name": "b", "price": -5.0}])
    with pytest.raises(mlflow.exceptions.MlflowException, match="ad 0: price must lie") as refused:
        model.predict(frame)
    assert refused.value.get_http_status_code() == 400


def test_a_logged_model_belongs_to_its_run(place: Home) -> None:
    run = start_run("training")
    ads = frame_from_records(EXAMPLE_ADS)
    model_id = log_model(run, Standin(), ads, loader_module=LOADER)
    model = mlflow_client(place).get_logged_model(model_id)
    assert str(model.status) == "READY"
    assert model.source_run_id == run.run_id
    outputs = mlflow_client(place).get_run(run.run_id).outputs
    assert [output.model_id for output in outputs.model_outputs] == [model_id]
    about = yaml.safe_load(
        (place.mlflow_artifacts / "models" / model_id / "artifacts/MLmodel").read_text("utf-8")
    )
    assert about["run_id"] == run.run_id


def test_a_model_that_cannot_be_saved_is_marked_failed(place: Home) -> None:
    class Broken(Standin):
        def save(self, _: Path) -> None:
            raise OSError("disk full")

    run = start_run("training")
    with pytest.raises(OSError, match="disk full"):
        log_model(run, Broken(), frame_from_records(EXAMPLE_ADS), loader_module=LOADER)
    outputs = mlflow_client(place).get_run(run.run_id).outputs
    model_id = outputs.model_outputs[0].model_id
    assert str(mlflow_client(place).get_logged_model(model_id).status) == "FAILED"
