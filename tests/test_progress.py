from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from demand.progress import QUIET, console, epochs_shown, rows_shown, trials_shown
from demand.state import PROJECT_ROOT
from demand.trainer import Epoch
from demand.tuning.search import Found, Trial

EPOCH = Epoch(2, 0.71234, 0.24321, 1.5, 3.0)
SHOW = """
from demand.progress import epochs_shown, rows_shown
from demand.trainer import Epoch
with epochs_shown(3) as on_epoch:
    on_epoch(Epoch(1, 0.7, 0.24, 1.0, 2.0))
with rows_shown("demo ads", 10) as progress:
    progress(10)
"""


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(QUIET, raising=False)


def test_an_epoch_is_a_line_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with epochs_shown(3) as on_epoch:
        on_epoch(EPOCH)
    told = capfd.readouterr()
    line = "  epoch 2/3: loss 0.7123, validation RMSE 0.2432, at most 3 s left\n"
    assert (told.out, told.err) == ("", line)


def test_an_epoch_of_a_refit_has_no_validation_rmse(capfd: pytest.CaptureFixture[str]) -> None:
    with epochs_shown(3) as on_epoch:
        on_epoch(Epoch(2, 0.71234, float("nan"), 1.5, 3.0))
    assert capfd.readouterr().err == "  epoch 2/3: loss 0.7123, at most 3 s left\n"


BASE = Trial(0, {}, "finished", (0.25, 0.27), 4.0)


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (Trial(1, {}, "finished", (0.24, 0.25), 2.0), "RMSE 0.24500; best 0.24500 of trial 1"),
        (
            Trial(1, {}, "pruned", (0.28,), 2.0),
            "stopped at fold 1, +0.03000 to the base; best",
        ),
        (Trial(1, {}, "failed", (), 0.0), "cannot be trained; best 0.26000 of trial 0"),
    ],
    ids=["finished", "pruned", "failed"],
)
def test_a_trial_is_a_line(last: Trial, told: str, capfd: pytest.CaptureFixture[str]) -> None:
    with trials_shown(3) as on_trial:
        on_trial(Found((BASE, last)))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"  trial 1: {told}")
    assert "; 2 of 3 done, about " in lines[0]


def test_trials_are_not_told_when_quiet(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(QUIET, "1")
    with trials_shown(3) as on_trial:
        on_trial(Found((BASE,)))
    assert capfd.readouterr().err == ""


def test_rows_are_not_told_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with rows_shown("demo ads", 10) as progress:
        progress(5)
    assert capfd.readouterr() == ("", "")


def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(QUIET, "1")
    console().print("anything")
    with epochs_shown(3) as on_epoch:
        on_epoch(EPOCH)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=PROJECT_ROOT,
        env=environment,
        stderr=theirs,
        check=True,
        timeout=120,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            block = os.read(ours, 65_536)
        except OSError:  # Linux ends a terminal whose other side is closed this way
            break
        if not block:
            break
        shown += block
    os.close(ours)
    assert "training: loss 0.7000, validation RMSE 0.2400" in shown.decode()
    assert "10/10" in shown.decode()
