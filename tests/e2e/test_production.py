"""Batch files and the evaluation in production, against a model that was trained and deployed."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from demand.data.reading import read_ads
from demand.model.predictor import ARRAYS_NAME, Predictor
from demand.registry.registry import Registry
from demand.schema.columns import TARGET
from demand.serving.client import TOKEN_VARIABLE
from demand.serving.http.server import free_port
from demand.serving.processes import start_server
from demand.workspace.workspace import Workspace, read_json
from tests.e2e.api import Api
from tests.e2e.door import Door, Run
from tests.e2e.installation import Installation

pytestmark = pytest.mark.e2e

ROWS = 1200
TOKEN = "correct-horse-battery-staple"


def source(installation: Installation) -> Path:
    return Registry(Workspace(installation.home)).version("1").source


def command(pipeline: str, *arguments: object) -> list[str]:
    return [sys.executable, "run.py", "--pipeline", pipeline, *map(str, arguments)]


def figures(installation: Installation) -> dict[str, Any]:
    return read_json(installation.reports.parent / "production-evaluation" / "metrics.json")


@pytest.fixture(scope="module")
def predictor(serving: Installation) -> Predictor:
    return Predictor.load(source(serving) / "data" / "predictor")


@pytest.fixture(scope="module")
def ads(demo_ads: Path) -> pd.DataFrame:
    return read_ads(demo_ads).frame


# ------------------------------- batch inference; what it answers is in test_parity.py


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "{data}"], "is the file of ads itself"),
        (["--output", "{folder}"], "it is a folder"),
        (["--output", "{folder}/a.csv", "--model", "7"], "no version 7 of the model; there is: 1"),
    ],
    ids=["input", "folder", "version"],
)
def test_what_cannot_be_done_is_one_error(
    serving: Installation, door: Door, arguments: list[str], message: str, tmp_path: Path
) -> None:
    places = {"data": str(serving.data), "folder": str(tmp_path)}
    before = serving.data.read_bytes()
    asked = [argument.format(**places) for argument in arguments]
    run = door.start_pipeline(serving, command("batch-inference", "--data", serving.data, *asked))
    assert (run.wait(), run.printed.count("\n")) == (1, 1), run.printed
    assert run.printed.startswith("error: ")
    assert message in run.printed
    assert serving.data.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- production evaluation


def evaluated(installation: Installation, door: Door, *arguments: object) -> Run:
    asked = command("production-evaluation", "--data", installation.data, *arguments)
    return door.start_pipeline(installation, asked)


@pytest.fixture(scope="module")
def measured(serving: Installation, door: Door) -> dict[str, Any]:
    run = evaluated(serving, door, "--rows", ROWS)
    assert run.wait() == 0, run.printed
    assert "warning: the served model was trained on this very file" in run.printed
    return figures(serving)


def test_the_deployed_model_answers_as_the_predictor_does(measured: dict[str, Any]) -> None:
    assert measured["passed"]
    assert measured["max_difference"] <= 1e-6
    assert measured["rmse"] == pytest.approx(measured["offline_rmse"], abs=1e-6)
    assert (measured["n"], measured["requests"], measured["model_version"]) == (ROWS, 3, "1")


def test_the_figures_that_others_rely_on_are_there(
    measured: dict[str, Any], serving: Installation, predictor: Predictor, ads: pd.DataFrame
) -> None:
    assert measured["mse"] == pytest.approx(measured["rmse"] ** 2)
    assert measured["rmse_low"] < measured["rmse"] < measured["rmse_high"]
    assert 0.0 < measured["latency_ms_p50"] <= measured["latency_ms_p99"]
    assert measured["throughput_ads_per_s"] > 0.0
    assert measured["mae"] == pytest.approx(
        np.abs(predictor.predict(ads) - ads[TARGET]).mean(), rel=0.1
    )
    assert measured["endpoint"] == serving.status()["endpoint"]
    assert measured["training"]["rmse"] == pytest.approx(serving.metrics()["rmse"])


@pytest.mark.usefixtures("measured")
def test_the_report_has_the_table(serving: Installation) -> None:
    folder = serving.reports.parent / "production-evaluation"
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "Table 1" in report
    assert "| RMSE |" in report
    assert sorted(path.name for path in folder.iterdir()) == [
        *("metrics.json", "report.md", "timings.json")
    ]


@pytest.fixture(scope="module")
def tampered(serving: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve, as version 1, a model with other weights; yield its URL."""
    folder = tmp_path_factory.mktemp("tampered") / "model"
    shutil.copytree(source(serving), folder)
    arrays = folder / "data" / "predictor" / ARRAYS_NAME
    changed = {
        name: values * np.asarray(1.5, values.dtype) if values.dtype.kind == "f" else values
        for name, values in load_file(arrays).items()
    }
    save_file(changed, arrays)
    port = free_port(serving.port + 500, "127.0.0.1")
    server = start_server(folder, "1", "127.0.0.1", port, folder.parent / "server.log")
    try:
        server.wait_until_ready(120.0)
        yield server.address
    finally:
        server.stop()


def test_another_model_than_the_registered_one_is_refused(
    serving: Installation, door: Door, tampered: str
) -> None:
    run = evaluated(serving, door, "--url", tampered)
    assert run.wait() == 2, run.printed
    assert run.last_line.startswith("stopped: the production gate said no: the deployed RMSE ")
    measured = figures(serving)
    assert not measured["passed"]
    assert measured["max_difference"] > 1e-3
    assert measured["endpoint"] == f"{tampered}/invocations"


def test_a_server_that_is_not_there_is_an_error_that_names_it(
    serving: Installation, door: Door
) -> None:
    url = f"http://127.0.0.1:{serving.port + 900}/invocations"
    run = evaluated(serving, door, "--url", url, "--quiet")
    assert (run.wait(), run.printed.count("\n")) == (1, 1), run.printed
    assert run.printed.startswith(f"error: {url} does not answer (")
    assert "`demand serve`" in run.printed


@pytest.fixture(scope="module")
def guarded(serving: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the API with a bearer token; yield the URL of its /predict."""
    log = tmp_path_factory.mktemp("api") / "api.log"
    api = Api(Workspace(serving.home), log, **{TOKEN_VARIABLE: TOKEN})
    try:
        api.wait("/ready", 200)
        yield f"{api.url}/predict"
    finally:
        api.end()


def with_token(installation: Installation, token: str | None) -> Installation:
    """Return the same installation, used by somebody who has set the token, or has none."""
    used = copy.copy(installation)
    used.environment = installation.environment | ({TOKEN_VARIABLE: token} if token else {})
    return used


def test_an_api_that_wants_a_token_gets_it_and_nothing_keeps_it(
    serving: Installation, door: Door, guarded: str
) -> None:
    run = evaluated(with_token(serving, TOKEN), door, "--url", guarded, "--rows", 100)
    assert run.wait() == 0, run.printed
    measured = figures(serving)
    assert (measured["passed"], measured["n"], measured["endpoint"]) == (True, 100, guarded)
    kept = [path for path in serving.folder.rglob("*") if path.is_file()]
    assert any(path.name == "zenml.db" for path in kept)
    assert not [path for path in (*kept, run.output) if TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "wants a bearer token: set the environment variable DEMAND_API_TOKEN to it"),
        ("not-the-one", "wants another bearer token than that in the environment variable"),
    ],
)
def test_a_token_that_is_missing_or_wrong_is_told_by_the_name_of_its_variable(
    serving: Installation, door: Door, guarded: str, token: str | None, message: str
) -> None:
    run = evaluated(with_token(serving, token), door, "--url", guarded, "--quiet")
    assert (run.wait(), run.printed.count("\n")) == (1, 1), run.printed
    assert run.printed.startswith(f"error: {guarded} answered 401, since it ")
    assert message in run.printed
    assert TOKEN_VARIABLE in run.printed
    assert "not-the-one" not in run.printed


# The last one: nothing serves any more.
def test_without_a_deployment_the_way_out_is_told(serving: Installation, door: Door) -> None:
    serving.stop()
    run = evaluated(serving, door, "--quiet")
    assert (run.wait(), run.printed.count("\n")) == (1, 1), run.printed
    assert run.printed.startswith("error: nothing is deployed: run `demand serve`")
    assert not (serving.reports.parent / "production-evaluation" / "metrics.json").exists()
