"""The packaged model on a machine that has MLflow and the model's requirements, nothing more."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests

from demand.evaluation.metrics import Floats
from demand.registry.packaging import records, save_model
from demand.schema.columns import TARGET
from demand.schema.records import frame_from_records
from demand.serving.http.server import free_port
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_predictor

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

TOLERANCE = 1e-6
# MLflow resolves with some ninety packages.
INSTALL_S, ANSWER_S = 1200, 300
BARE_AD = {"title": "Велосипед горный", "category_name": "Велосипеды"}
# A column is missing, some cells are empty, and a text has only digits.
CSV = """title,category_name,price,description,param_3
Велосипед,Велосипеды,,,12
2106,Автомобили,500.5,,
"""
CSV_ADS = [
    {"title": "Велосипед", "category_name": "Велосипеды", "param_3": "12"},
    {"title": "2106", "category_name": "Автомобили", "price": 500.5},
]
LOAD = """
import json, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
ads = pd.DataFrame(json.load(open(sys.argv[2], encoding="utf-8")))
answers = model.predict(ads).tolist()
import demand
told = {"answers": answers, "code": demand.__file__, "torch": "torch" in sys.modules}
json.dump(told, sys.stdout)
"""


@dataclass(frozen=True)
class Machine:
    """An environment of its own, a folder outside the project, and a model that lies there."""

    folder: Path
    python: Path
    model: Path

    def run(self, *arguments: object) -> str:
        """Run Python with these arguments, and return what it printed."""
        done = subprocess.run(
            [self.python, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return an environment that leads nowhere near this project."""
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and k[:7] != "DEMAND_"}
        return kept | {"PATH": f"{self.python.parent}{os.pathsep}{kept['PATH']}"}

    def answers(self, said: str) -> Floats:
        """Return the answers of MLflow's JSON, shape (n,)."""
        return np.asarray(json.loads(said)["predictions"])


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("machine")
    save_model(tiny_predictor(), folder / "model", make_ads(20).drop(columns=TARGET))
    venv.create(folder / "venv", with_pip=True)
    machine = Machine(folder, folder / "venv" / "bin" / "python", folder / "model")
    mlflow = f"mlflow=={importlib.metadata.version('mlflow')}"
    wanted = ("--requirement", machine.model / "requirements.txt")
    # Python compiles what it imports; pip would compile all the packages.
    machine.run("-m", "pip", "install", "--quiet", "--no-compile", mlflow, *wanted)
    return machine


@pytest.fixture(scope="module")
def url(machine: Machine) -> Iterator[str]:
    """Return where ``mlflow models serve`` answers."""
    port = free_port(27000 + os.getpid() % 1000)
    serve = ["-m", "mlflow", "models", "serve", "--env-manager", "local", "--port", str(port)]
    command = [str(machine.python), *serve, "--model-uri", str(machine.model)]
    log = (machine.folder / "serve.log").open("wb")
    with subprocess.Popen(
        command,
        cwd=machine.folder,
        env=machine.environment(),
        stdout=log,
        stderr=log,
        start_new_session=True,
    ) as server:
        try:
            yield wait_for(f"http://127.0.0.1:{port}", server)
        finally:
            os.killpg(server.pid, 15)
    log.close()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> str:
    """Return the URL when it answers."""
    until = time.monotonic() + ANSWER_S
    while time.monotonic() < until and server.poll() is None:
        try:
            requests.get(f"{url}/ping", timeout=5).raise_for_status()
        except requests.RequestException:
            time.sleep(0.2)
        else:
            return url
    raise AssertionError("mlflow models serve does not answer")


def test_it_needs_neither_torch_nor_anything_of_this_project(machine: Machine) -> None:
    names = {each["name"] for each in json.loads(machine.run("-m", "pip", "list", "--format=json"))}
    assert not names & {"torch", "zenml", "avito-demand", "avito_demand"}


def test_it_loads_and_gives_the_predictors_answers(machine: Machine, tmp_path: Path) -> None:
    ads = make_ads(200, seed=9).drop(columns=TARGET)
    (tmp_path / "ads.json").write_text(json.dumps(records(ads)), encoding="utf-8")
    told = json.loads(machine.run("-c", LOAD, machine.model, tmp_path / "ads.json"))
    expected = tiny_predictor().predict(ads)
    np.testing.assert_allclose(told["answers"], expected, rtol=0, atol=TOLERANCE)
    assert Path(told["code"]).is_relative_to(machine.model)
    assert not told["torch"]


def test_it_is_served_and_answers_a_raw_ad(machine: Machine, url: str) -> None:
    answer = requests.post(f"{url}/invocations", json={"dataframe_records": [BARE_AD]}, timeout=60)
    expected = tiny_predictor().predict(frame_from_records([BARE_AD]))
    given = machine.answers(answer.text)
    np.testing.assert_allclose(given, expected, rtol=0, atol=TOLERANCE)


def test_a_wrong_value_is_named_over_http(url: str) -> None:
    wrong = {"dataframe_records": [BARE_AD | {"price": -5}]}
    answer = requests.post(f"{url}/invocations", json=wrong, timeout=60)
    assert answer.status_code == 400
    assert "ad 0: price must lie" in answer.text


def test_it_answers_a_csv_file(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "ads.csv").write_text(CSV, encoding="utf-8")
    predict = ["-m", "mlflow", "models", "predict", "--env-manager", "local"]
    files = ["-i", tmp_path / "ads.csv", "-t", "csv", "-o", tmp_path / "answers.json"]
    machine.run(*predict, "--model-uri", machine.model, *files)
    given = machine.answers((tmp_path / "answers.json").read_text(encoding="utf-8"))
    expected = tiny_predictor().predict(frame_from_records(CSV_ADS))
    np.testing.assert_allclose(given, expected, rtol=0, atol=TOLERANCE)
