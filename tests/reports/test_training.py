from __future__ import annotations

import math
from pathlib import Path

import pytest

from demand.errors import StateError
from demand.reports.training import METRICS_FILE, complete_report, training_report, with_lineage
from demand.workspace.workspace import read_json, write_json

REPORT = training_report({"rmse": 0.2, "mae": math.nan}, {"rows_test": 5}, {"data_md5": "abc"})


def test_a_report_holds_figures_rows_and_lineage() -> None:
    assert REPORT == {
        "rmse": 0.2,
        "mae": None,
        "rows_test": 5,
        "data_md5": "abc",
        "deployed": False,
        "model_version": None,
        "endpoint": None,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_no_number_is_null(value: float, tmp_path: Path) -> None:
    write_json(tmp_path / METRICS_FILE, training_report({"rmse": value}, {}, {}))
    assert read_json(tmp_path / METRICS_FILE)["rmse"] is None


@pytest.mark.parametrize(("endpoint", "deployed"), [("http://127.0.0.1:1/x", True), (None, False)])
def test_a_report_is_completed(tmp_path: Path, endpoint: str | None, deployed: bool) -> None:
    write_json(tmp_path / METRICS_FILE, REPORT)
    whole = complete_report(tmp_path, "7", endpoint)
    assert whole == REPORT | {"model_version": "7", "endpoint": endpoint, "deployed": deployed}
    assert read_json(tmp_path / METRICS_FILE) == whole


def test_a_report_of_a_cached_evaluation_gets_the_lineage_of_this_run(tmp_path: Path) -> None:
    write_json(tmp_path / METRICS_FILE, REPORT | {"git_commit": "old-dirty"})
    with_lineage(tmp_path, {"git_commit": "new", "data_md5": "abc", "beside": "left out"})
    assert read_json(tmp_path / METRICS_FILE) == REPORT | {"git_commit": "new"}


def test_without_a_report_there_is_nothing_to_complete(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=METRICS_FILE):
        complete_report(tmp_path, "7", None)
