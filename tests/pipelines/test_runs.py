from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse

from pipelines.runs import restore_cached_reports, timings
from steps.common import REPORTS, SECONDS


@dataclass
class Output:
    """An artifact: a folder of reports that its store copies out when it is loaded."""

    reports: Path

    def load(self) -> Path:
        return self.reports


@dataclass
class Step:
    status: ExecutionStatus
    run_metadata: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, list[Output]] = field(default_factory=dict)


@dataclass
class Run:
    steps: dict[str, Step]


def run_of(**steps: Step) -> PipelineRunResponse:
    return cast(PipelineRunResponse, Run(steps))


def ran(seconds: float) -> Step:
    return Step(ExecutionStatus.COMPLETED, {SECONDS: seconds})


CACHED = Step(ExecutionStatus.CACHED, {SECONDS: 9.0})


def test_each_step_has_its_time_and_the_rest_is_zenmls() -> None:
    rows = timings(run_of(ingest=ran(1.04), train=ran(10.0)), 20.0)
    assert [(row["part"], row["seconds"]) for row in rows] == [
        ("ingest", 1.0),
        ("train", 10.0),
        ("ZenML and start-up", 9.0),
        ("total", 20.0),
    ]


def test_a_cached_step_took_no_time() -> None:
    rows = timings(run_of(ingest=CACHED, train=ran(2.0)), 5.0)
    assert [(row["seconds"], row["cached"]) for row in rows] == [
        (0.0, True),
        (2.0, False),
        (3.0, False),
        (5.0, False),
    ]


def test_a_step_that_logged_no_time_is_zenmls() -> None:
    rows = timings(run_of(ingest=Step(ExecutionStatus.COMPLETED)), 5.0)
    assert [row["seconds"] for row in rows] == [0.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("status", "published"), [(ExecutionStatus.CACHED, True), (ExecutionStatus.COMPLETED, False)]
)
def test_reports_of_cached_steps_are_published_again(
    tmp_path: Path, status: ExecutionStatus, published: bool
) -> None:
    reports = tmp_path / "artifact"
    reports.mkdir()
    (reports / "checks.html").write_text("page")
    step = Step(status, outputs={REPORTS: [Output(reports)]})
    restore_cached_reports(run_of(check=step, split=CACHED), tmp_path / "reports")
    assert (tmp_path / "reports" / "checks.html").exists() is published
