"""What people hear of runs, in a real store of ZenML, by webhooks and by the stack's alerter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demand.monitoring.alerts import URLS
from demand.workspace.workspace import PROJECT_ROOT
from tests.receiver import Receiver, receiving

RUNS = """
import sys
from contextlib import suppress
from zenml import pipeline, step
from zenml.client import Client
from zenml.enums import ExecutionMode
from demand.errors import GateRefusal
from orchestration.alerter import run_failed
from orchestration.runs import run_pipeline

@step(enable_cache=False)
def evaluate(ends: str) -> None:
    if ends == "fails":
        raise ValueError("no such column: price\\nand a long explanation")
    if ends == "refused":
        raise GateRefusal("rmse", "0.31 is not below 0.25")

@pipeline(name="training", execution_mode=ExecutionMode.FAIL_FAST, on_failure=run_failed)
def training(ends: str) -> None:
    evaluate(ends)

for ends in sys.argv[1:]:
    if ends == "asks":
        try:
            Client().active_stack.alerter.ask("deploy?")
        except NotImplementedError:
            print("nobody can say yes")
        continue
    with suppress(ValueError, GateRefusal):
        run_pipeline(training, (ends,))
"""
ZENML = (str(Path(sys.executable).with_name("zenml")),)


@pytest.fixture(scope="module")
def webhook() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture(scope="module")
def people() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, webhook: Receiver) -> Run:
    """Return what runs a program in an installation whose alerts go to a webhook."""
    folder = tmp_path_factory.mktemp("installation")
    environment = {
        **os.environ,
        "DEMAND_HOME": str(folder / "home"),
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "PYTHONPATH": str(PROJECT_ROOT),
        URLS: f"json://{webhook.address}",
    }

    # A file, since ZenML asks where a step's code lies.
    (folder / "runs.py").write_text(RUNS, encoding="utf-8")

    def started(*command: str) -> str:
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return started


def test_a_run_that_fails_is_told_once_with_step_and_reason_and_then_its_end(
    run: Run, webhook: Receiver
) -> None:
    run(sys.executable, "runs.py", "fails", "fails", "succeeds", "succeeds")
    failed, over = webhook.got
    assert (failed["title"], failed["type"]) == ("alarm: training failed", "failure")
    assert " ended at evaluate: no such column: price" in failed["message"]
    assert "explanation" not in failed["message"]
    assert (over["title"], over["type"]) == ("over: training failed", "success")


@pytest.fixture(scope="module")
def alerter(run: Run, people: Receiver) -> None:
    """Make a stack with an alerter the active one, as the documentation says."""
    register = (*ZENML, "alerter", "flavor", "register")
    run(*register, "orchestration.alerter.AppriseAlerterFlavor")
    run(*ZENML, "secret", "create", "people", f"--urls=json://{people.address}")
    run(*ZENML, "alerter", "register", "people", "--flavor=apprise", "--urls={{people.urls}}")
    parts = ("--orchestrator=default", "--artifact-store=default", "--alerter=people")
    run(*ZENML, "stack", "register", "told", *parts, "--set")


def test_the_alerter_of_the_stack_is_told_too(
    run: Run, webhook: Receiver, people: Receiver, alerter: None
) -> None:
    webhook.got.clear()
    run(sys.executable, "runs.py", "refused")
    (told,) = webhook.got
    assert told["title"] == "watch: a gate of training said no"
    assert "0.31 is not below 0.25" in told["message"]
    assert [(each["title"], each["message"]) for each in people.got] == [
        (told["title"], told["message"])
    ]


def test_an_alerter_that_only_sends_approves_nothing(run: Run, alerter: None) -> None:
    assert run(sys.executable, "runs.py", "asks").endswith("nobody can say yes\n")
