from __future__ import annotations

import importlib.metadata
import io
import json
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.pyfunc import scoring_server
from starlette.testclient import TestClient

from demand.registry.loader import ServedPredictor
from demand.registry.packaging import (
    EXAMPLE_ADS,
    SAMPLES_FILE,
    log_model,
    records,
    requirements,
    save_model,
)
from demand.registry.tracking import mlflow_client, start_run
from demand.schema.columns import COLUMN
from demand.schema.records import frame_from_records
from demand.serving.http.bodies import frame_from_body
from demand.workspace.workspace import Workspace, read_json
from tests.ads_factory import make_ads
from tests.serving.standin import LOADER, Standin
from tests.tiny_model import tiny_predictor


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
    assert {path.suffix for path in files} <= {".json", ".yaml", ".txt", ".safetensors", ".py", ""}
    assert not any(path.read_bytes().startswith(b"\x80") for path in files)


def test_the_signature_demands_title_and_category_only(model: mlflow.pyfunc.PyFuncModel) -> None:
    schema = model.metadata.get_input_schema()
    assert sorted(schema.required_input_names()) == ["category_name", "title"]
    assert len(schema.input_names()) == 17


def test_requirements_are_pinned_to_what_is_installed() -> None:
    pinned = dict(line.split("==") for line in requirements())
    assert pinned["mlflow-skinny"] == importlib.metadata.version("mlflow")
    assert not any("+" in version for version in pinned.values())


def test_the_code_that_travels_is_what_inference_needs(folder: Path) -> None:
    code = folder / "code"
    names = {path.relative_to(code).as_posix() for path in code.rglob("*") if path.is_file()}
    assert {"demand/registry/loader.py", "demand/schema/population.json"} <= names
    rooms = {name.split("/")[1] for name in names if name.count("/") == 2}
    assert not rooms & {"data", "monitoring", "page", "reports", "serving", "validation"}
    assert not any("import torch" in path.read_text("utf-8") for path in code.rglob("*.py"))


def test_a_process_of_ours_imports_nothing_from_the_model(
    folder: Path, model: mlflow.pyfunc.PyFuncModel
) -> None:
    # Of the stand-in, whose loader leaves the path as MLflow has made it.
    assert str(folder / "code") in sys.path
    own = folder.parent / "own"
    save_model(tiny_predictor(), own, make_ads(3).drop(columns="deal_probability"))
    before = list(sys.path)
    mlflow.pyfunc.load_model(str(own))
    assert sys.path == before


def test_the_model_answers_as_the_predictor_does(
    folder: Path, model: mlflow.pyfunc.PyFuncModel
) -> None:
    ads = make_ads(30).drop(columns="deal_probability")
    plain = pd.DataFrame(records(ads))
    for name in ("price", "item_seq_number", "image_top_1"):
        plain[name] = plain[name].astype(float)
    np.testing.assert_array_equal(model.predict(plain), Standin().predict(ads))


PLAIN = {"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame([PLAIN]),
        pd.DataFrame([PLAIN]).astype({"price": "int16"}),
        pd.DataFrame([PLAIN]).astype({"price": "float32"}),
        pd.DataFrame([PLAIN]).astype({"price": "Int64", "title": "string"}),
        pd.DataFrame([PLAIN]).astype(dict.fromkeys(["title", "category_name"], "category")),
        pd.DataFrame([PLAIN]).convert_dtypes(dtype_backend="pyarrow"),
        pd.DataFrame([PLAIN | {"price": Decimal("9000.00")}]),
        pd.DataFrame([PLAIN | dict.fromkeys(["description", "param_1", "image_top_1"], np.nan)]),
        pd.DataFrame([PLAIN | dict.fromkeys(["description", "image_top_1"])]),
        pd.DataFrame([PLAIN | {"description": pd.NA, "activation_date": pd.NaT}]),
        pd.DataFrame([PLAIN]).assign(city=pd.Series([None], dtype="category")),
        pd.DataFrame([PLAIN], index=["x"]),
    ],
    ids=lambda frame: " ".join(map(str, frame.dtypes)),
)
def test_a_plain_frame_is_answered_as_by_http(
    model: mlflow.pyfunc.PyFuncModel, frame: pd.DataFrame
) -> None:
    expected = Standin().predict(frame_from_records([PLAIN]))
    np.testing.assert_array_equal(model.predict(frame), expected)


def test_an_ad_is_read_as_by_http_whatever_pandas_took_its_texts_for(
    model: mlflow.pyfunc.PyFuncModel,
) -> None:
    ads = [
        {"title": "2106", "category_name": "Автомобили", "param_3": "42", "price": 500.5},
        {"title": "2107", "category_name": "Автомобили", "param_3": "", "price": ""},
    ]
    text = pd.DataFrame(ads).to_csv(index=False)
    taken = pd.read_csv(io.StringIO(text))
    assert [str(taken[name].dtype) for name in ("title", "param_3")] == ["int64", "float64"]
    read = Reading()
    ServedPredictor(read).predict(taken)
    pd.testing.assert_frame_equal(read.frame, frame_from_body(text.encode(), "text/csv", ads=2))


class Reading(Standin):
    """A model that keeps what it was asked."""

    frame: pd.DataFrame

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        self.frame = frame
        return super().predict(frame)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_mlflow_models_predict_answers_a_file(folder: Path, tmp_path: Path, kind: str) -> None:
    asked, answered = tmp_path / f"ads.{kind}", tmp_path / "answers.json"
    if kind == "csv":
        pd.DataFrame([PLAIN]).to_csv(asked, index=False)
    else:
        asked.write_text(json.dumps({"dataframe_records": [PLAIN]}))
    run = [sys.executable, "-m", "mlflow", "models", "predict", "--env-manager", "local"]
    options = ["-m", str(folder), "-i", str(asked), "-o", str(answered), "-t", kind]
    subprocess.run([*run, *options], check=True, timeout=300, capture_output=True)
    expected = Standin().predict(frame_from_records([PLAIN])).tolist()
    assert json.loads(answered.read_text()) == {"predictions": expected}


def test_mlflows_own_server_answers_each_form(model: mlflow.pyfunc.PyFuncModel) -> None:
    client = TestClient(scoring_server.init(model))
    expected = {"predictions": Standin().predict(frame_from_records([PLAIN])).tolist()}
    columns = {name: [value] for name, value in PLAIN.items()}
    split = {"columns": list(PLAIN), "data": [list(PLAIN.values())]}
    for payload in (
        {"dataframe_records": [PLAIN]},
        {"dataframe_split": split},
        {"instances": [PLAIN]},
        {"inputs": columns},
    ):
        assert client.post("/invocations", json=payload).json() == expected
    assert client.get("/version").status_code == 200


def test_a_model_with_types_in_its_signature_still_answers(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "model"
    shutil.copytree(folder, old)
    about = yaml.safe_load((old / "MLmodel").read_text("utf-8"))
    columns = json.loads(about["signature"]["inputs"])
    for column in columns:
        number = COLUMN[column["name"]].kind in ("number", "integer")
        column["type"] = "double" if number else "string"
    about["signature"]["inputs"] = json.dumps(columns)
    (old / "MLmodel").write_text(yaml.safe_dump(about, allow_unicode=True), "utf-8")
    model = mlflow.pyfunc.load_model(str(old))
    expected = Standin().predict(frame_from_records([PLAIN]))
    np.testing.assert_array_equal(model.predict(pd.DataFrame([PLAIN | {"price": 9e3}])), expected)
    np.testing.assert_allclose(
        model.predict(model.input_example), Standin().predict(frame_from_records(EXAMPLE_ADS[:1]))
    )


def test_the_input_example_is_answered(folder: Path, model: mlflow.pyfunc.PyFuncModel) -> None:
    expected = Standin().predict(frame_from_records(EXAMPLE_ADS[:1]))
    np.testing.assert_allclose(model.predict(model.input_example), expected)


def test_sample_ads_are_kept_with_the_predictors_answers(folder: Path) -> None:
    kept = read_json(folder / SAMPLES_FILE)
    assert len(kept["ads"]) == 30
    answers = Standin().predict(frame_from_records(kept["ads"]))
    np.testing.assert_array_equal(answers, kept["predictions"])


def test_a_wrong_value_is_named_to_users_of_plain_mlflow(
    model: mlflow.pyfunc.PyFuncModel,
) -> None:
    frame = pd.DataFrame([{"title": "a", "category_name": "b", "price": -5.0}])
    with pytest.raises(mlflow.exceptions.MlflowException, match="ad 0: price must lie") as refused:
        model.predict(frame)
    assert refused.value.get_http_status_code() == 400


def test_a_logged_model_belongs_to_its_run(workspace: Workspace) -> None:
    run = start_run("training")
    ads = frame_from_records(EXAMPLE_ADS)
    model_id = log_model(run, Standin(), ads, loader_module=LOADER)
    model = mlflow_client(workspace).get_logged_model(model_id)
    assert str(model.status) == "READY"
    assert model.source_run_id == run.run_id
    outputs = mlflow_client(workspace).get_run(run.run_id).outputs
    assert [output.model_id for output in outputs.model_outputs] == [model_id]
    about = yaml.safe_load(
        (workspace.mlflow_artifacts / "models" / model_id / "artifacts/MLmodel").read_text("utf-8")
    )
    assert about["run_id"] == run.run_id


def test_a_model_that_cannot_be_saved_is_marked_failed(workspace: Workspace) -> None:
    class Broken(Standin):
        def save(self, _: Path) -> None:
            raise OSError("disk full")

    run = start_run("training")
    with pytest.raises(OSError, match="disk full"):
        log_model(run, Broken(), frame_from_records(EXAMPLE_ADS), loader_module=LOADER)
    outputs = mlflow_client(workspace).get_run(run.run_id).outputs
    model_id = outputs.model_outputs[0].model_id
    assert str(mlflow_client(workspace).get_logged_model(model_id).status) == "FAILED"
