from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli import pipelines
from cli.pipelines import ROWS, answer, evaluate, show_answered, show_evaluation
from demand.config import TrainingConfig
from demand.errors import (
    AdsFileError,
    ConfigError,
    GateRefusal,
    ModelError,
    ServingError,
    StateError,
)
from demand.registry.registry import Registry
from demand.registry.versions import RegisteredVersion
from demand.workspace.workspace import PROJECT_ROOT, write_json
from tests.cli.heard import said

ANSWERED: dict[str, Any] = {
    "rows": 1500,
    "answered": 1498,
    "data_md5": "x",
    "warnings": ["ignored columns: 'a[b]'", "2 ads without title"],
}


def asked(folder: Path, **others: Any) -> argparse.Namespace:
    data = folder / "ads.csv"
    data.write_text("item_id,title,category_name\n1,Диван,Мебель\n", encoding="utf-8")
    options: dict[str, Any] = {
        "data": data,
        "output": folder / "out.csv",
        "model": None,
        "config": PROJECT_ROOT / "configs" / "training.yaml",
    }
    return argparse.Namespace(**options | others)


class Registered(Registry):
    """A registry without any version."""

    def __init__(self) -> None:
        """Ask no store."""

    def champion(self) -> None:
        return None

    def version(self, version: str) -> None:
        raise ModelError(f"there is no version {version} of the model; there is: none")


@pytest.fixture
def no_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demand.registry.registry.Registry", Registered)


@pytest.fixture
def no_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object) -> None:
        raise AssertionError("the pipeline was started")

    monkeypatch.setattr(pipelines, "answer_file", started)


def test_a_run_shows_warnings_and_what_was_answered(out: Console) -> None:
    show_answered(out, ANSWERED, "3", Path("/a/out.csv"), 1.25)
    assert said(out).splitlines() == [
        "warning: ignored columns: 'a[b]'",
        "warning: 2 ads without title",
        "version 3 answered 1,498 of 1,500 ads in 1.2 s",
        "answers: /a/out.csv",
    ]


@pytest.mark.parametrize(
    ("version", "message"), [(None, "no champion yet: run"), ("7", "no version 7 of the model")]
)
def test_a_version_that_is_not_there_is_told(version: str | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Registered().asked(version)


@pytest.mark.usefixtures("no_pipeline")
def test_what_is_bound_to_fail_fails_before_the_pipeline_starts(
    tmp_path: Path, out: Console
) -> None:
    with pytest.raises(StateError, match="it is a folder"):
        answer(asked(tmp_path, output=tmp_path), out)
    with pytest.raises(StateError, match="the file of ads itself"):
        answer(asked(tmp_path, output=tmp_path / "ads.csv"), out)
    with pytest.raises(AdsFileError, match="there is no file"):
        answer(asked(tmp_path, data=tmp_path / "nowhere.csv"), out)
    with pytest.raises(ConfigError):
        answer(asked(tmp_path, config=tmp_path / "nowhere.yaml"), out)


@pytest.mark.usefixtures("no_pipeline", "no_versions")
def test_without_a_champion_no_pipeline_starts(tmp_path: Path, out: Console) -> None:
    with pytest.raises(ModelError, match="no champion yet"):
        answer(asked(tmp_path), out)
    assert not (tmp_path / "out.csv").exists()


def test_the_pipeline_is_given_what_was_asked_for(
    tmp_path: Path, out: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    version = RegisteredVersion("2", "r", "m", "d", "f", {}, tmp_path, "s", "2026-01-01", {})

    def answer_file(*values: object) -> dict[str, Any]:
        given.extend(values)
        return ANSWERED

    monkeypatch.setattr(pipelines, "answer_file", answer_file)
    monkeypatch.setattr("demand.registry.registry.Registry", Registered)
    monkeypatch.setattr(Registered, "version", lambda *_: version)
    assert answer(asked(tmp_path, model="2"), out) == 0
    assert given == [tmp_path / "ads.csv", tmp_path / "out.csv", version, 8.0]
    assert said(out).startswith(f"version 2 answers {tmp_path}")


URL = "http://127.0.0.1:9/invocations"
METRICS: dict[str, Any] = {
    "rmse": 0.23901,
    "rmse_low": 0.23,
    "rmse_high": 0.25,
    "mse": 0.05713,
    "mse_low": 0.05,
    "mse_high": 0.06,
    "mae": 0.1601,
    "mae_low": 0.15,
    "mae_high": 0.17,
    "offline_rmse": 0.23901,
    "offline_mse": 0.05713,
    "offline_mae": 0.1601,
    "training": {"rmse": 0.2412},
    "confidence": 0.95,
    "n": 1200,
    "requests": 3,
    "latency_ms_p50": 41.23,
    "latency_ms_p99": 55.0,
    "throughput_ads_per_s": 12345.6,
    "max_difference": 1.2e-16,
    "model_version": "3",
    "warnings": ["the file [is] known"],
}


@pytest.fixture
def production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DEMAND_REPORTS", str(tmp_path / "reports"))
    data = tmp_path / "ads.csv"
    data.write_text("item_id,title\n", encoding="utf-8")
    config = PROJECT_ROOT / "configs" / "training.yaml"
    return argparse.Namespace(data=data, url=URL, rows=None, config=config)


def reports(folder: Path) -> Path:
    return folder / "reports" / "production-evaluation"


def test_the_errors_stand_beside_those_of_training(out: Console) -> None:
    show_evaluation(out, METRICS, Path("/reports"))
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in said(out).splitlines()
        if line.startswith("│")
    ]
    assert cells[0] == ["RMSE", "0.2390", "0.2300 – 0.2500", "0.2390", "0.2412"]
    assert cells[2][-1] == "–"


def test_speed_warnings_and_the_place_of_the_reports_are_told(out: Console) -> None:
    show_evaluation(out, METRICS, Path("/reports"))
    lines = said(out).splitlines()
    assert lines[-4:] == [
        "warning: the file [is] known",
        "version 3 answered 1,200 ads in 3 requests: 41.2 ms median, 55.0 ms 99th percentile, "
        "12,346 ads/s",
        "furthest from the registered model's own answer: 1.2e-16",
        "reports: /reports",
    ]


def test_what_is_unknown_is_left_out(out: Console) -> None:
    unknown = {"offline_rmse": None, "offline_mse": None, "offline_mae": None}
    show_evaluation(out, METRICS | unknown | {"max_difference": None}, Path("/reports"))
    assert "furthest" not in said(out)


def test_what_cannot_be_measured_fails_before_the_pipeline_starts(
    production: argparse.Namespace, out: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines, "evaluate_endpoint", lambda *_: pytest.fail("it was started"))
    production.url = None
    with pytest.raises(ServingError, match="nothing is deployed"):
        evaluate(production, out)
    production.url = "nonsense"
    with pytest.raises(ServingError, match="is no URL of an endpoint"):
        evaluate(production, out)
    production.data = production.data.with_name("nowhere.csv")
    with pytest.raises(AdsFileError, match="there is no file"):
        evaluate(production, out)


def test_reports_from_before_do_not_pass_for_those_of_a_run_that_fails(
    production: argparse.Namespace, out: Console, tmp_path: Path
) -> None:
    write_json(reports(tmp_path) / "metrics.json", METRICS)
    production.url = "nonsense"
    with pytest.raises(ServingError):
        evaluate(production, out)
    assert list(reports(tmp_path).iterdir()) == []


@pytest.mark.parametrize("refusal", [None, GateRefusal("production", "other answers")])
def test_the_figures_are_shown_also_where_the_gate_says_no(
    refusal: GateRefusal | None,
    production: argparse.Namespace,
    out: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def evaluate_endpoint(_: argparse.Namespace, config: TrainingConfig, folder: Path) -> None:
        write_json(folder / "metrics.json", METRICS)
        if refusal is not None:
            raise refusal

    monkeypatch.setattr(pipelines, "evaluate_endpoint", evaluate_endpoint)
    if refusal is None:
        assert evaluate(production, out) == 0
    else:
        with pytest.raises(GateRefusal):
            evaluate(production, out)
    assert f"to {URL}" in said(out).splitlines()[0]
    assert f"reports: {reports(tmp_path)}" in said(out)


def test_so_many_ads_are_sent_unless_said_otherwise() -> None:
    assert ROWS == 10_000
