"""Retraining by cron and by systemd, with a stand-in for the pipeline."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from demand.errors import EXIT_GATE, EXIT_USAGE
from tests.standin_job import is_running, pids, standin_project, tries, wait_for

CRON = Path(__file__).resolve().parents[2] / "deployment" / "cron"
UNIT = "avito-demand-retraining"

pytestmark = pytest.mark.skipif(
    shutil.which("timeout") is None, reason="there is no timeout(1) of GNU coreutils"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = standin_project(tmp_path / "a project")
    (project / "deployment").mkdir()
    shutil.copytree(CRON, project / "deployment" / "cron")
    return project


def environment(**settings: str) -> dict[str, str]:
    """Return as much environment as cron gives, and the settings."""
    return {"PATH": "/usr/bin:/bin", "RETRAIN_WAIT_S": "0", **settings}


def retrain(project: Path, config: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project / "deployment" / "cron" / "retrain", f"--config={config}"],
        cwd="/",
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
    )


def logs(project: Path) -> list[Path]:
    return sorted((project / ".demand" / "logs" / "retraining").iterdir())


def test_a_deployed_model_is_no_mail(project: Path) -> None:
    done = retrain(project, "0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_gates_no_is_one_line_and_one_try(project: Path) -> None:
    done = retrain(project, "2")
    assert done.returncode == EXIT_GATE
    assert done.stdout.count("\n") == 1
    assert "the rmse gate said no: 0.2201 is not below 0.01" in done.stdout
    assert len(tries(project)) == 1


def test_wrong_usage_is_not_tried_again(project: Path) -> None:
    assert retrain(project, "64").returncode == EXIT_USAGE
    assert len(tries(project)) == 1


def test_an_error_is_tried_three_times_and_then_told(project: Path) -> None:
    done = retrain(project, "1")
    assert done.returncode == 1
    assert "failed 3 times" in done.stderr
    assert len(tries(project)) == 3


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("1", "exit status 1: error: the model server ended at its start (log: "),
        ("64", "wrong usage: run.py: unrecognized arguments (log: "),
    ],
)
def test_the_reason_is_what_the_program_said_not_the_details_after_it(
    project: Path, config: str, said: str
) -> None:
    done = retrain(project, config, RETRAIN_TRIES="1")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_reason_is_of_this_try_though_the_log_holds_all_of_the_day(project: Path) -> None:
    retrain(project, "1", RETRAIN_TRIES="1")
    assert "arguments: " in retrain(project, "3", RETRAIN_TRIES="1").stderr


def test_arguments_reach_the_pipeline_as_they_are(project: Path) -> None:
    program = project / "deployment" / "cron" / "retrain"
    subprocess.run([program, "--data", "my ads; $HOME *.csv"], env=environment(), check=True)
    assert tries(project) == [repr(["--pipeline", "training", "--data", "my ads; $HOME *.csv"])]


def test_the_time_limit_ends_the_job_and_its_children(project: Path) -> None:
    done = retrain(project, "endless", RETRAIN_TIME_LIMIT="2s", RETRAIN_TRIES="1")
    assert done.returncode == 124
    assert "no end within 2s" in done.stderr
    started = pids(project)
    assert len(started) == 2
    wait_for(lambda: not any(map(is_running, started)), 5, "the job's processes have ended")


def test_ending_the_wrapper_ends_the_job(project: Path) -> None:
    program = project / "deployment" / "cron" / "retrain"
    with subprocess.Popen([program, "--config=endless"], env=environment()) as wrapper:
        wait_for(lambda: len(pids(project)) == 2, 20, "the job has started")
        wrapper.send_signal(signal.SIGTERM)
        assert wrapper.wait(timeout=20) == 143
    wait_for(lambda: not any(map(is_running, pids(project))), 5, "the job has ended")


def test_old_logs_go_and_todays_stays(project: Path) -> None:
    folder = project / ".demand" / "logs" / "retraining"
    folder.mkdir(parents=True)
    old, other = folder / "2020-01-01.log", folder / "notes.txt"
    for path in (old, other):
        path.touch()
        os.utime(path, (0, 0))
    retrain(project, "0")
    assert old not in logs(project)
    assert other in logs(project)
    assert "объявление" in logs(project)[0].read_text(encoding="utf-8")


def test_a_project_that_is_not_set_up_is_named(project: Path) -> None:
    shutil.rmtree(project / ".venv")
    done = retrain(project, "0")
    assert done.returncode == 1
    assert "make training" in done.stderr


def test_the_crontab_is_one_weekly_line() -> None:
    lines = (CRON / "crontab").read_text(encoding="utf-8").splitlines()
    (entry,) = [line for line in lines if line and not line.startswith("#")]
    schedule, command = re.fullmatch(r"((?:\S+ ){5})(.*)", entry).groups()
    assert schedule.split() == ["0", "3", "*", "*", "1"]
    assert shlex.split(command) == ["/opt/avito-demand/deployment/cron/retrain"]
    assert "%" not in command, "cron turns a % into a line break"


def unit(kind: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read(CRON / f"{UNIT}.{kind}", encoding="utf-8")
    return parser


def test_systemd_takes_a_gates_no_for_an_answer() -> None:
    service = unit("service")["Service"]
    assert service["SuccessExitStatus"] == str(EXIT_GATE)
    assert service["RestartPreventExitStatus"].split() == [str(EXIT_GATE), str(EXIT_USAGE)]


def test_systemd_leaves_the_model_server_alone() -> None:
    service = unit("service")["Service"]
    assert service["KillMode"] == "process"
    assert "PrivateTmp" not in service


@pytest.mark.parametrize("config", ["0", "2"])
def test_the_command_of_the_service_runs_the_pipeline(project: Path, config: str) -> None:
    command = unit("service")["Service"]["ExecStart"].replace("$RETRAIN_ARGS", f"--config={config}")
    words = [word.replace("/opt/avito-demand", str(project)) for word in command.split()]
    done = subprocess.run(words, cwd=project, env=environment(), capture_output=True, timeout=30)
    assert done.returncode == int(config)
    assert tries(project) == [repr(["--pipeline", "training", f"--config={config}"])]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    project = standin_project(tmp_path / "project")
    shutil.copytree(CRON, project / "deployment" / "cron")
    units = []
    for kind in ("service", "timer"):
        text = (CRON / f"{UNIT}.{kind}").read_text(encoding="utf-8")
        units.append(tmp_path / f"{UNIT}.{kind}")
        units[-1].write_text(text.replace("/opt/avito-demand", str(project)), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True
    )
    # Other units of the machine may be named too; these two must not be.
    assert UNIT not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="there is no shellcheck here")
def test_shellcheck_finds_nothing_wrong_with_the_wrapper() -> None:
    done = subprocess.run(["shellcheck", CRON / "retrain"], capture_output=True, text=True)
    assert done.stdout == ""
