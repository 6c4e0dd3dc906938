from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from cli.terminal import DEBUG, Parser, guarded
from demand.errors import (
    AdsFileError,
    ConfigError,
    GateRefusal,
    ModelError,
    ServingError,
    StateError,
)
from demand.workspace.workspace import PROJECT_ROOT


def failing(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize("status", [0, 1, 5])
def test_the_status_of_the_action_is_kept(status: int) -> None:
    assert guarded(lambda: status) == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AdsFileError("no file"), 1),
        (ConfigError("no key"), 1),
        (StateError("no disk"), 1),
        (ModelError("no model"), 1),
        (ServingError("no answer"), 1),
    ],
)
def test_an_error_is_one_line(
    error: Exception, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert guarded(failing(error)) == status
    assert capfd.readouterr() == ("", f"error: {error}\n")


def test_on_a_full_disk_an_error_names_the_way_out(capfd: pytest.CaptureFixture[str]) -> None:
    def action() -> int:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise StateError("cannot write ads.parquet: No space left on device") from error

    assert guarded(action) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: cannot write ads.parquet: No space left on device; free some ")
    assert "`demand cache --clear`" in line


@pytest.mark.parametrize("gate", ["data", "checks", "rmse", "champion"])
def test_a_refusal_ends_with_two_and_says_which_gate_and_why(
    gate: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert guarded(failing(GateRefusal(gate, "0.3 is not below 0.25"))) == 2
    told = f"stopped: the {gate} gate said no: 0.3 is not below 0.25; what was serving still serves"
    assert capfd.readouterr().err == f"{told}\n"


def test_ctrl_c_ends_with_130(capfd: pytest.CaptureFixture[str]) -> None:
    assert guarded(failing(KeyboardInterrupt())) == 130
    assert "what was serving still serves" in capfd.readouterr().err


def test_the_signal_of_a_scheduler_is_heard_like_ctrl_c() -> None:
    def action() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
        return 0

    assert guarded(action) == 130


def test_a_fault_of_the_program_is_one_message(capfd: pytest.CaptureFixture[str]) -> None:
    assert guarded(failing(ZeroDivisionError("by nought"))) == 1
    told = capfd.readouterr().err
    assert "unexpected ZeroDivisionError: by nought" in told
    assert "Traceback" not in told


def test_a_fault_of_the_program_is_not_hidden_from_who_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(ZeroDivisionError):
        guarded(failing(ZeroDivisionError()))


def test_a_reader_that_has_seen_enough_makes_no_noise() -> None:
    program = (
        "import sys; from cli.terminal import DEBUG, guarded\n"
        "sys.exit(guarded(lambda: [print('line', flush=True) for _ in range(10**6)] and 0))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (1, b"")


def parser() -> Parser:
    made = Parser(prog="door", description="A door.", epilog="example:\n  door --rows 5")
    made.add_argument("--rows", type=int, required=True)
    return made


@pytest.mark.parametrize("argv", [[], ["--rows", "x"], ["--row", "5"], ["--rows", "5", "more"]])
def test_wrong_usage_ends_with_64(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(argv)
    assert ended.value.code == 64
    told = capfd.readouterr()
    assert told.out == ""
    assert "Usage: door" in told.err
    assert "\ndoor: " in told.err


def test_help_ends_with_the_example(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--help"])
    assert ended.value.code == 0
    assert capfd.readouterr().out.rstrip().endswith("example:\n  door --rows 5")
