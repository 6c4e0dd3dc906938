from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import run
from demand.config import DataSettings
from demand.demo import DEFAULT_MD5
from demand.ingestion.records import frame_from_records
from demand.state import PROJECT_ROOT
from demand.versioning import demo_file

Captured = pytest.CaptureFixture[str]
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


def ended(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as raised:
        run.main(argv)
    assert isinstance(raised.value.code, int)
    return raised.value.code


def test_help_ends_with_examples(capfd: Captured) -> None:
    assert ended(["--help"]) == 0
    examples = capfd.readouterr().out.rpartition("examples:\n")[2]
    assert "python run.py --pipeline training" in examples


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--pipeline", "trainning"],
        ["--pipeline"],
        ["training"],
        ["--pipeline", "training", "--no-deplo"],
        ["--pipeline", "training", "--data"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_64(argv: list[str], capfd: Captured) -> None:
    assert ended(argv) == 64
    assert "Usage: run.py" in capfd.readouterr().err


def test_without_more_the_shipped_config_is_used() -> None:
    arguments = run.parser().parse_args(["--pipeline", "training"])
    assert arguments.config == PROJECT_ROOT / "configs" / "training.yaml"
    assert arguments.data is None
    assert not arguments.no_deploy


@pytest.fixture
def out() -> Console:
    return Console(file=io.StringIO(), width=60)


def said(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_a_file_that_is_given_is_used(out: Console) -> None:
    assert run.find_ads(Path("a.csv"), DataSettings(file="b.csv"), out) == Path("a.csv")


def test_a_file_of_the_config_is_used(out: Console) -> None:
    assert run.find_ads(None, DataSettings(file="b.csv"), out) == Path("b.csv")


def test_the_default_demo_ads_are_recognised_wherever_they_lie() -> None:
    assert run.demo_origin(Path("copy.csv"), DEFAULT_MD5, DataSettings()) == (20_000, 2017)


def test_other_demo_ads_are_recognised_where_they_were_generated() -> None:
    asked = DataSettings(demo_rows=500, demo_seed=3)
    assert run.demo_origin(demo_file(500, 3), "0" * 32, asked) == (500, 3)


@pytest.mark.parametrize("path", [Path("ads.csv"), demo_file(20_000, 2017)])
def test_ads_of_other_bytes_are_no_demo_ads(path: Path) -> None:
    assert run.demo_origin(path, "0" * 32, DataSettings()) is None


def test_the_curl_line_asks_about_an_ad_as_it_is_written() -> None:
    words = shlex.split(run.curl_line(ENDPOINT))
    assert words[0] == "curl"
    assert ENDPOINT in words
    assert words[words.index("-H") + 1] == "Content-Type: application/json"
    (ad,) = json.loads(words[words.index("-d") + 1])["dataframe_records"]
    assert frame_from_records([ad])["title"].tolist() == ["Велосипед горный"]


def test_a_run_shows_what_it_took_and_reached(out: Console) -> None:
    run.show(out, METRICS, TOOK, Path("/reports/training"))
    told = said(out)
    assert "test RMSE 0.2346 on 800 ads" in told
    assert "champion: version 3" in told
    assert "reports: /reports/training" in told
    assert "cached" in told
    assert "1.2" in told
    assert "noise floor" not in told


def test_the_curl_line_is_shown_in_one_line(out: Console) -> None:
    run.show(out, METRICS, TOOK, Path("/reports"))
    assert run.curl_line(ENDPOINT) in said(out).splitlines()
    assert f"endpoint: {ENDPOINT}" in said(out).splitlines()


def test_a_run_that_is_not_deployed_shows_no_endpoint(out: Console) -> None:
    run.show(out, METRICS | {"endpoint": None}, TOOK, Path("/reports"))
    assert "curl" not in said(out)
    assert "endpoint" not in said(out)


def test_a_run_on_demo_ads_shows_the_noise_floor(out: Console) -> None:
    metrics = METRICS | {"noise_floor_rmse": 0.2121, "explained_share": 0.456}
    run.show(out, metrics, TOOK, Path("/reports"))
    assert "noise floor 0.2121: 46% of what can be explained is" in said(out)
