"""The parts of the retraining DAG that need no Airflow: exit policy and child process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.errors import EXIT_ERROR, EXIT_GATE, EXIT_USAGE, GateRefusal
from tests.standin_job import is_running, pids, standin_project, tries, wait_for

DAGS = Path(__file__).resolve().parents[1] / "deployment" / "airflow" / "dags"


def load(name: str) -> ModuleType:
    """Import a module that lies beside the DAG, as Airflow does."""
    spec = importlib.util.spec_from_file_location(name, DAGS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


policy = load("exit_policy")
training = load("training_job")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return standin_project(tmp_path / "a project; with $signs")


def job(project: Path, config: str, data: str | None = None):
    command = training.training_command(project, data, config)
    environment = training.training_environment(project, os.environ)
    return training.TrainingJob(command, project, environment, grace_s=0.5)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0, policy.Outcome.DEPLOYED),
        (EXIT_GATE, policy.Outcome.REFUSED),
        (EXIT_USAGE, policy.Outcome.WRONG_USAGE),
        (EXIT_ERROR, policy.Outcome.ERROR),
    ],
)
def test_the_programs_own_statuses_are_understood(status: int, outcome: object) -> None:
    assert policy.judge(status, ["x"]).outcome is outcome


@given(st.integers(-64, 255).filter(lambda status: status not in (0, EXIT_GATE, EXIT_USAGE)))
def test_every_other_status_is_an_error_to_try_again(status: int) -> None:
    assert policy.judge(status, []).outcome is policy.Outcome.ERROR


def test_a_refusal_quotes_the_gate_though_other_lines_follow() -> None:
    spoken = f"stopped: {GateRefusal('rmse', '0.26 is not below 0.25')}"
    assert policy.judge(EXIT_GATE, ["epoch 1", spoken, "timings", ""]).message == spoken


def test_a_refusal_is_called_one_though_the_job_did_not_say_so() -> None:
    assert "a gate said no" in policy.judge(EXIT_GATE, []).message


def test_an_error_quotes_the_last_line_that_is_not_blank() -> None:
    assert policy.judge(1, ["first", "the port 8790 is taken", " "]).message.endswith(
        "the port 8790 is taken"
    )


@pytest.mark.parametrize(
    ("status", "spoken"),
    [
        (EXIT_ERROR, "error: the model server ended at its start; its log ends with:"),
        (EXIT_USAGE, "run.py: unrecognized arguments: --dta"),
        (EXIT_GATE, "stopped: what the gate wanted"),
    ],
)
def test_the_reason_is_what_the_program_said_not_the_details_after_it(
    status: int, spoken: str
) -> None:
    lines = ["error: an earlier one", "epoch 1", spoken, "  error: quoted", "see more"]
    assert policy.judge(status, lines).message.endswith(spoken)


def test_a_signal_is_named() -> None:
    assert "SIGKILL" in policy.judge(-signal.SIGKILL, []).message


@pytest.mark.parametrize(
    "value", ["ads of May.csv", "$(touch x); `id` && true | cat > y", "--no-deploy", "'\"\\", "*"]
)
def test_a_path_reaches_the_job_as_it_is(project: Path, value: str) -> None:
    assert job(project, "0", value).run(str) == 0
    assert tries(project) == [repr(["--pipeline", "training", f"--data={value}", "--config=0"])]


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_parameter_is_left_to_the_defaults(project: Path, empty: str | None) -> None:
    command = training.training_command(project, empty, empty)
    assert command[1:] == ["run.py", "--pipeline", "training"]


def test_a_project_that_is_not_set_up_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.py").touch()
    with pytest.raises(FileNotFoundError, match=r"python does not exist: run `make training`"):
        training.training_command(tmp_path, None, None)


def test_nothing_of_airflow_reaches_the_job(tmp_path: Path) -> None:
    base = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "secret",
        "_AIRFLOW_X": "1",
        "PYTHONPATH": "/elsewhere",
        "DEMAND_HOME": "/kept",
        "PATH": "/usr/bin",
    }
    assert training.training_environment(tmp_path, base) == {
        "DEMAND_HOME": "/kept",
        "PATH": f"{tmp_path}/.venv/bin:/usr/bin",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.mark.parametrize("status", [0, 1, 2, 64])
def test_the_jobs_own_status_is_returned(project: Path, status: int) -> None:
    assert job(project, str(status)).run(str) == status


def test_output_is_shown_line_by_line_and_its_end_is_kept(project: Path) -> None:
    shown: list[str] = []
    refused = job(project, "2")
    refused.run(shown.append)
    assert shown[0].endswith("объявление")
    assert list(refused.last_lines) == shown
    assert len(shown) == 3


def test_bytes_that_are_no_text_do_not_stop_the_output(tmp_path: Path) -> None:
    shown: list[str] = []
    code = r"import sys; sys.stdout.buffer.write(b'\xff\xfe\nend\n')"
    broken = training.TrainingJob([sys.executable, "-c", code], tmp_path, os.environ)
    assert broken.run(shown.append) == 0
    assert shown == ["��", "end"]


@pytest.mark.parametrize("kind", ["endless", "stubborn"])
def test_an_interruption_ends_the_job_and_its_children(project: Path, kind: str) -> None:
    def time_out(line: str) -> None:
        if line == "started":
            raise TimeoutError

    with pytest.raises(TimeoutError):
        job(project, kind).run(time_out)
    started = pids(project)
    assert len(started) == 2
    wait_for(lambda: not any(map(is_running, started)), 5, "the job's processes have ended")


def test_a_server_left_behind_neither_ends_nor_blocks(project: Path) -> None:
    shown: list[str] = []
    assert job(project, "server").run(shown.append) == 0
    server = int(shown[-1].removeprefix("pid "))
    try:
        assert is_running(server)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)


def test_stopping_a_job_that_never_started_does_nothing(project: Path) -> None:
    job(project, "0").stop()
    assert tries(project) == []
