from __future__ import annotations

import math
import os
import pty
import re
import subprocess
import sys

import pandas as pd
import pytest

from demand import progress
from demand.progress import (
    QUIET,
    Epoch,
    blocks_shown,
    console,
    only_warned,
    rows_shown,
    run_shown,
    show_epoch,
    show_trial,
    step_shown,
)
from demand.workspace.workspace import PROJECT_ROOT

EPOCH = Epoch(2, 0.71234, 0.24321, 1.5)
SHOW = """
from demand.progress import console, report, rows_shown, run_shown, show_epoch, step_shown
from types import SimpleNamespace
with run_shown({"ingest": [], "train": ["ingest"], "deploy": ["train"]}):
    with step_shown("train"):
        show_epoch(SimpleNamespace(epoch=1, train_loss=0.7, validation_rmse=0.24), 3)
        console().print("a line above the table")
with rows_shown("demo ads", 10) as progress:
    progress(10)
"""


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(QUIET, raising=False)


def test_an_epoch_is_a_line_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    show_epoch(EPOCH, 3)
    line = "  epoch 2/3: loss 0.7123, validation RMSE 0.2432\n"
    assert capfd.readouterr() == ("", line)


def test_an_epoch_of_a_refit_has_no_validation_rmse(capfd: pytest.CaptureFixture[str]) -> None:
    show_epoch(Epoch(2, 0.71234, float("nan"), 1.5), 3)
    assert capfd.readouterr().err == "  epoch 2/3: loss 0.7123\n"


def test_a_step_is_a_line_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with run_shown({"ingest": [], "train": ["ingest"], "deploy": ["train"]}), step_shown("train"):
        pass
    told = capfd.readouterr().err.splitlines()
    assert told == ["  ingest: cached", "  train: done, 0.0 s", "  deploy: cached"]


def test_steps_after_one_that_failed_are_no_lines(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        run_shown({"train": [], "deploy": ["train"]}),
        step_shown("train"),
    ):
        raise ZeroDivisionError
    assert capfd.readouterr().err == "  train: failed, 0.0 s\n"


def test_a_step_outside_of_a_run_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with step_shown("train"):
        pass
    assert capfd.readouterr() == ("", "")


def test_blocks_are_reported_when_they_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[tuple[float, float]] = []
    monkeypatch.setattr(progress, "report", lambda *done: reported.append(done))
    blocks = blocks_shown(iter(["abc", "de"]), 5)
    assert (next(blocks), reported) == ("abc", [])
    assert (list(blocks), reported) == (["de"], [(3, 5), (5, 5)])


def test_what_must_not_fail_is_only_warned_of(capfd: pytest.CaptureFixture[str]) -> None:
    with only_warned("nothing is told"):
        raise ValueError("no [store]")
    assert capfd.readouterr().err == "warning: nothing is told: no [store]\n"


def trials(*rows: tuple[str, float | None, float, int, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["state", "rmse", "behind_base", "folds", "seconds"])
    return table.assign(trial=range(len(rows)))


BASE = ("finished", 0.26, 0.0, 2, 4.0)


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (("finished", 0.245, -0.015, 2, 2.0), "RMSE 0.24500; best 0.24500 of trial 1"),
        (("pruned", None, 0.03, 1, 2.0), "stopped at fold 1, +0.03000 to the base; best"),
        (("failed", None, math.nan, 0, 0.0), "cannot be trained; best 0.26000 of trial 0"),
    ],
    ids=["finished", "pruned", "failed"],
)
def test_a_trial_is_a_line(
    last: tuple[str, float | None, float, int, float], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    show_trial(trials(BASE, last), 3)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"  trial 1: {told}")
    assert "; 2 of 3 done, about " in lines[0]


def test_trials_are_not_told_when_quiet(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(QUIET, "1")
    show_trial(trials(BASE), 3)
    assert capfd.readouterr().err == ""


def test_rows_are_not_told_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with rows_shown("demo ads", 10) as progress:
        progress(5)
    assert capfd.readouterr() == ("", "")


def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(QUIET, "1")
    console().print("anything")
    with run_shown({"train": []}), step_shown("train"):
        show_epoch(EPOCH, 3)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_table_of_the_steps_and_bars() -> None:
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
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "epoch 1/3: loss 0.7000, validation RMSE 0.2400" in text
    assert re.search(r"ingest +cached", text)
    assert re.search(r"train +running +[0-9.]+ s +━", text)
    assert re.search(r"train +running .* about \d+ s left", text)
    assert re.search(r"deploy +waiting", text)
    assert re.search(r"total +3 of 3", text)
    assert text.count("a line above the table") == 1
    assert "10/10" in text
