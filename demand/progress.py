"""Progress for people: the steps of a run on a terminal, a line each elsewhere, none when quiet."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

QUIET = "DEMAND_QUIET"
Rows = TypeVar("Rows", bound=Sized)


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training ads left behind."""

    epoch: int  # number of the pass, from 1
    train_loss: float  # mean binary cross-entropy
    validation_rmse: float  # of the deal probability; NaN without validation ads
    seconds: float


@dataclass
class _Step:
    state: str = "waiting"
    begun: float = 0.0
    seconds: float = 0.0
    done: float = 0.0
    total: float = 0.0
    note: str = ""

    def left(self, seconds: float) -> str:
        """Say how long it takes yet, if it goes on as in these seconds."""
        if self.state != "running" or not 0.0 < self.done < self.total:
            return ""
        return f"about {seconds * (self.total - self.done) / self.done:.0f} s left"


class RunDisplay:
    """The steps of a run with their state, seconds, and a bar where a step tells how far it is.

    ``out`` gets a table that follows the run if it is a terminal, else a line a step that ended.
    ``upstream`` has each step with those that it waits for.
    """

    def __init__(self, out: Console, upstream: Mapping[str, Iterable[str]]) -> None:
        self.console = out
        self._begun = time.perf_counter()
        self._upstream = upstream
        self._steps = {name: _Step() for name in upstream}
        self._running: _Step | None = None

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show the step as running; those it waits for that never ran were cached."""
        self.skip(self._upstream[name])
        step = self._steps[name]
        step.state, step.begun, self._running = "running", time.perf_counter(), step
        try:
            yield
        except BaseException:
            self._end(name, step, "failed")
            raise
        self._end(name, step, "done")

    def report(self, done: float, total: float, note: str) -> None:
        """Move the bar of the step that runs."""
        if self._running is not None:
            self._running.done, self._running.total = done, total
            self._running.note = note or self._running.note

    def skip(self, names: Iterable[str]) -> None:
        """Show those of the steps that never ran, and all that they wait for, as cached."""
        for name in names:
            if self._steps[name].state == "waiting":
                self.skip(self._upstream[name])
                self._end(name, self._steps[name], "cached")

    def _end(self, name: str, step: _Step, state: str) -> None:
        step.state, self._running = state, None
        step.seconds = time.perf_counter() - step.begun if step.begun else 0.0
        if not self.console.is_terminal:
            told = state if state == "cached" else f"{state}, {step.seconds:.1f} s"
            self.console.print(f"  {name}: {told}", markup=False, soft_wrap=True)

    def __rich__(self) -> Table:
        """Return the table as it is now."""
        table, now = Table.grid(padding=(0, 2)), time.perf_counter()
        for name, step in self._steps.items():
            running = step.state == "running"
            seconds = now - step.begun if running else step.seconds
            bar = ProgressBar(step.total, step.done, width=24) if running and step.total else ""
            styled = {"running": "bold", "waiting": "dim", "failed": "red"}.get(step.state, "")
            spent = f"{seconds:.1f} s" if step.begun else ""
            left = step.left(seconds)
            table.add_row(f"  {name}", step.state, spent, bar, left, step.note, style=styled)
        ended = sum(step.state in ("done", "cached") for step in self._steps.values())
        bar = ProgressBar(len(self._steps), ended, width=24)
        done = f"{ended} of {len(self._steps)}"
        table.add_row("  total", done, f"{now - self._begun:.1f} s", bar, style="bold")
        return table


_DISPLAY: ContextVar[RunDisplay | None] = ContextVar("display", default=None)


def console() -> Console:
    """Return a console on standard error, silent where ``DEMAND_QUIET`` is set."""
    display = _DISPLAY.get()
    if display is not None:  # what is printed there stands above its table
        return display.console
    return Console(file=sys.__stderr__, quiet=bool(os.environ.get(QUIET)), highlight=False)


@contextlib.contextmanager
def run_shown(upstream: Mapping[str, Iterable[str]]) -> Iterator[RunDisplay]:
    """Show a run of these steps, each with those that it waits for.

    The table goes when the run has succeeded, and stays when it has not.
    """
    out = console()
    display = RunDisplay(out, upstream)
    token = _DISPLAY.set(display)
    live = Live(display, console=out, redirect_stdout=False, redirect_stderr=False)
    try:
        with live if out.is_terminal else contextlib.nullcontext():
            yield display
            live.transient = True
            display.skip(upstream)
    finally:
        _DISPLAY.reset(token)


@contextlib.contextmanager
def step_shown(name: str) -> Iterator[None]:
    """Show a step of the run that is shown, if one is."""
    display = _DISPLAY.get()
    with contextlib.nullcontext() if display is None else display.step(name):
        yield


def report(done: float, total: float, note: str = "") -> None:
    """Say how far the current step is, in any unit; without a shown run nothing happens."""
    display = _DISPLAY.get()
    if display is not None:
        display.report(done, total, note)


def blocks_shown(blocks: Iterable[Rows], rows: int) -> Iterator[Rows]:
    """Yield blocks, such as frames, that have so many rows in all; report each that is done."""
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        report(done, rows)


@contextlib.contextmanager
def only_warned(told: str) -> Iterator[None]:
    """Let the block fail with no more than a warning that begins with ``told``."""
    try:
        yield
    except Exception as error:
        console().print(f"warning: {told}: {error}", markup=False, soft_wrap=True)


def show_epoch(epoch: Epoch, total: int) -> None:
    """Say how an epoch of ``total`` ended; a refit on all ads has no validation RMSE."""
    errors = f"loss {epoch.train_loss:.4f}"
    if not math.isnan(epoch.validation_rmse):
        errors += f", validation RMSE {epoch.validation_rmse:.4f}"
    told = f"epoch {epoch.epoch}/{total}: {errors}"
    out = console()
    if not out.is_terminal:
        out.print(f"  {told}")
    report(epoch.epoch, total, told)


def show_trial(trials: pd.DataFrame, total: int) -> None:
    """Say how the last trial of ``total`` ended, which is best, how long the others may take."""
    last, done = trials.iloc[-1], len(trials)
    best = trials.sort_values("rmse", kind="stable").iloc[0]
    ended = {
        "finished": f"RMSE {last['rmse']:.5f}",
        "pruned": f"stopped at fold {last['folds']}, {last['behind_base']:+.5f} to the base",
        "failed": "cannot be trained",
    }[last["state"]]
    left = trials["seconds"].mean() * max(total - done, 0)
    told = (
        f"  trial {last['trial']}: {ended}; best {best['rmse']:.5f} of trial {best['trial']}; "
        f"{done} of {total} done" + (f", about {left:.0f} s left" if left else "")
    )
    console().print(told, soft_wrap=True)
    report(done, total)


@contextlib.contextmanager
def rows_shown(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show one bar for ``total`` rows; the callback takes the rows done so far.

    In a step of a run that is shown, it is the step's bar.
    """
    out = console()
    if _DISPLAY.get() is not None or not out.is_terminal:
        yield lambda done: report(done, total)
        return
    columns: list[Any] = [TextColumn("  {task.description}"), BarColumn()]
    columns += [TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn()]
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)
