from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse

from demand.errors import GateRefusal
from orchestration.runs import interruptible, new_run_name, restore_cached_reports, timings
from orchestration.steps import REPORTS, SECONDS
from tests.own_store import run_program

# Two installations train at the same time: the second run is begun, and refused, before the
# first one has been looked up.
TWO_RUNS = """
import json
from zenml import pipeline, step
from zenml.enums import ExecutionMode
from orchestration.runs import new_run_name, run_named

@step(enable_cache=False)
def evaluate(refused: bool) -> None:
    if refused:
        raise ValueError("a gate says no")

@step(enable_cache=False)
def promote() -> None: ...

@pipeline(name="training", execution_mode=ExecutionMode.FAIL_FAST)
def training(refused: bool) -> None:
    evaluate(refused)
    promote(after=["evaluate"])

first, second = (new_run_name("training") for _ in range(2))
training.with_options(run_name=first)(False)
try:
    training.with_options(run_name=second)(True)
except ValueError:
    pass
found = [run_named(name) for name in (first, second)]
assert [run.name for run in found] == [first, second]
print(json.dumps([sorted(run.steps) for run in found]))
"""


@dataclass
class Output:
    """An artifact: a folder of reports that its store copies out when it is loaded."""

    reports: Path

    def load(self) -> Path:
        return self.reports


@dataclass
class Step:
    status: ExecutionStatus
    seconds: float | None = None
    outputs: dict[str, list[Output]] = field(default_factory=dict)
    run_metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    steps: dict[str, Step]


def run_of(**steps: Step) -> PipelineRunResponse:
    for name, step in steps.items():
        step.run_metadata = {} if step.seconds is None else {f"{name}_{SECONDS}": step.seconds}
    return cast(PipelineRunResponse, Run(steps))


def ran(seconds: float) -> Step:
    return Step(ExecutionStatus.COMPLETED, seconds)


CACHED = Step(ExecutionStatus.CACHED, 9.0)


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


def test_a_run_is_told_from_one_beside_it_and_found_though_it_was_refused(tmp_path: Path) -> None:
    done = run_program(tmp_path, TWO_RUNS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [["evaluate", "promote"], ["evaluate"]]


def test_runs_that_are_started_at_once_have_other_names() -> None:
    names = {new_run_name("training") for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("training-20") for name in names)


def test_a_signal_is_heard_while_a_pipeline_is_at_work() -> None:
    at_work, end = threading.Event(), threading.Event()

    def work() -> None:
        at_work.set()
        end.wait(30)

    def press_ctrl_c() -> None:
        at_work.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c).start()
    with pytest.raises(KeyboardInterrupt):
        interruptible(work)
    end.set()


def test_what_a_pipeline_returns_or_raises_comes_through() -> None:
    assert interruptible(lambda: 7) == 7
    with pytest.raises(GateRefusal):
        interruptible(refused)


def refused() -> None:
    raise GateRefusal("rmse", "0.3 is not below 0.25")
