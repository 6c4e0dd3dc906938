from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from demand.config import TrainingConfig
from demand.errors import AdsFileError, GateRefusal, ServingError
from demand.state import PROJECT_ROOT, write_json
from doors import production
from doors.production import ROWS, evaluate, show
from tests.doors.heard import said

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
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setenv("DEMAND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DEMAND_REPORTS", str(tmp_path / "reports"))
    data = tmp_path / "ads.csv"
    data.write_text("item_id,title\n", encoding="utf-8")
    config = PROJECT_ROOT / "configs" / "training.yaml"
    return argparse.Namespace(data=data, url=URL, rows=None, config=config)


def reports(folder: Path) -> Path:
    return folder / "reports" / "production-evaluation"


def test_the_errors_stand_beside_those_of_training(out: Console) -> None:
    show(out, METRICS, Path("/reports"))
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in said(out).splitlines()
        if line.startswith("│")
    ]
    assert cells[0] == ["RMSE", "0.2390", "0.2300 – 0.2500", "0.2390", "0.2412"]
    assert cells[2][-1] == "–"


def test_speed_warnings_and_the_place_of_the_reports_are_told(out: Console) -> None:
    show(out, METRICS, Path("/reports"))
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
    show(out, METRICS | unknown | {"max_difference": None}, Path("/reports"))
    assert "furthest" not in said(out)


def test_what_is_bound_to_fail_fails_before_the_pipeline_starts(
    asked: argparse.Namespace, out: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(production, "run_pipeline", lambda *_: pytest.fail("it was started"))
    asked.url = None
    with pytest.raises(ServingError, match="nothing is deployed"):
        evaluate(asked, out)
    asked.url = "nonsense"
    with pytest.raises(ServingError, match="is no URL of an endpoint"):
        evaluate(asked, out)
    asked.data = asked.data.with_name("nowhere.csv")
    with pytest.raises(AdsFileError, match="there is no file"):
        evaluate(asked, out)


def test_reports_from_before_do_not_pass_for_those_of_a_run_that_fails(
    asked: argparse.Namespace, out: Console, tmp_path: Path
) -> None:
    write_json(reports(tmp_path) / "metrics.json", METRICS)
    asked.url = "nonsense"
    with pytest.raises(ServingError):
        evaluate(asked, out)
    assert list(reports(tmp_path).iterdir()) == []


@pytest.mark.parametrize("refusal", [None, GateRefusal("production", "other answers")])
def test_the_figures_are_shown_also_where_the_gate_says_no(
    refusal: GateRefusal | None,
    asked: argparse.Namespace,
    out: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_pipeline(_: argparse.Namespace, config: TrainingConfig, folder: Path) -> None:
        write_json(folder / "metrics.json", METRICS)
        if refusal is not None:
            raise refusal

    monkeypatch.setattr(production, "run_pipeline", run_pipeline)
    if refusal is None:
        assert evaluate(asked, out) == 0
    else:
        with pytest.raises(GateRefusal):
            evaluate(asked, out)
    assert f"to {URL}" in said(out).splitlines()[0]
    assert f"reports: {reports(tmp_path)}" in said(out)


def test_so_many_ads_are_sent_unless_said_otherwise() -> None:
    assert ROWS == 10_000
