from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.pipelines import curl_line, show_training
from demand.schema.records import frame_from_records
from tests.cli.heard import said

ENDPOINT = "http://127.0.0.1:8790/invocations"
METRICS: dict[str, Any] = {
    "rmse": 0.23456,
    "rows_test": 800,
    "threshold": 0.25,
    "baseline_rmse": 0.26,
    "model_version": "3",
    "endpoint": ENDPOINT,
}
TOOK = [
    {"part": "ingest", "seconds": 1.2, "cached": False},
    {"part": "train", "seconds": 0.0, "cached": True},
]


def test_the_curl_line_asks_about_an_ad_as_it_is_written() -> None:
    words = shlex.split(curl_line(ENDPOINT))
    assert words[0] == "curl"
    assert ENDPOINT in words
    assert words[words.index("-H") + 1] == "Content-Type: application/json"
    (ad,) = json.loads(words[words.index("-d") + 1])["dataframe_records"]
    assert frame_from_records([ad])["title"].tolist() == ["Велосипед горный"]


def test_a_run_shows_what_it_took_and_reached(out: Console) -> None:
    show_training(out, METRICS, TOOK, Path("/reports/training"))
    told = said(out)
    assert "test RMSE 0.2346 on 800 ads" in told
    assert "champion: version 3" in told
    assert "reports: /reports/training" in told
    assert "cached" in told
    assert "1.2" in told
    assert "noise floor" not in told


def test_the_curl_line_is_shown_in_one_line(out: Console) -> None:
    show_training(out, METRICS, TOOK, Path("/reports"))
    assert curl_line(ENDPOINT) in said(out).splitlines()
    assert f"endpoint: {ENDPOINT}" in said(out).splitlines()


def test_a_run_that_is_not_deployed_shows_no_endpoint(out: Console) -> None:
    show_training(out, METRICS | {"endpoint": None}, TOOK, Path("/reports"))
    assert "curl" not in said(out)
    assert "endpoint" not in said(out)


def test_a_run_on_demo_ads_shows_the_noise_floor(out: Console) -> None:
    metrics = METRICS | {"noise_floor_rmse": 0.2121, "explained_share": 0.456}
    show_training(out, metrics, TOOK, Path("/reports"))
    assert "noise floor 0.2121: 46% of what can be explained is" in said(out)
