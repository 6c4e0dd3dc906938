"""Progress for people: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from demand.trainer import Epoch
    from demand.tuning.search import Found

QUIET = "DEMAND_QUIET"


def console() -> Console:
    """Return a console on standard error, silent where ``DEMAND_QUIET`` is set."""
    return Console(file=sys.__stderr__, quiet=bool(os.environ.get(QUIET)), highlight=False)


@contextmanager
def epochs_shown(total: int) -> Iterator[Callable[[Epoch], None]]:
    """Show one bar for ``total`` epochs with loss, validation RMSE and time left."""
    out = console()
    if not out.is_terminal:
        yield lambda e: out.print(
            f"  epoch {e.epoch}/{total}: {epoch_errors(e)}, at most {e.seconds_left:.0f} s left"
        )
        return
    with _bar(out) as bar:
        task = bar.add_task("  training", total=total)
        yield lambda e: bar.update(task, advance=1, description=f"  training: {epoch_errors(e)}")


def epoch_errors(epoch: Epoch) -> str:
    """Say the errors of an epoch; a refit on all ads has none on validation ads."""
    loss = f"loss {epoch.train_loss:.4f}"
    if math.isnan(epoch.validation_rmse):
        return loss
    return f"{loss}, validation RMSE {epoch.validation_rmse:.4f}"


@contextmanager
def trials_shown(total: int) -> Iterator[Callable[[Found], None]]:
    """Show a line a trial of a search for ``total`` of them; on a terminal a bar, too."""
    out = console()
    if not out.is_terminal:
        yield lambda found: out.print(trial_line(found, total), soft_wrap=True)
        return
    with _bar(out) as bar:
        task = bar.add_task("  trials", total=total)

        def show(found: Found) -> None:
            out.print(trial_line(found, total), soft_wrap=True)
            bar.update(task, completed=len(found.trials))

        yield show


def trial_line(found: Found, total: int) -> str:
    """Say how the last trial ended, which is best, and how long the others may take."""
    last, best, done = found.trials[-1], found.best, len(found.trials)
    ended = {
        "finished": f"RMSE {last.rmse:.5f}",
        "pruned": f"stopped at fold {len(last.folds)}, {found.behind_base(last):+.5f} to the base",
        "failed": "cannot be trained",
    }[last.state]
    left = sum(trial.seconds for trial in found.trials) / done * max(total - done, 0)
    return (
        f"  trial {last.number}: {ended}; best {best.rmse:.5f} of trial {best.number}; "
        f"{done} of {total} done" + (f", about {left:.0f} s left" if left else "")
    )


@contextmanager
def rows_shown(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show one bar for ``total`` rows; the callback takes the rows done so far."""
    out = console()
    if not out.is_terminal:
        yield lambda _: None
        return
    with _bar(out) as bar:
        task = bar.add_task(f"  {label}", total=total)
        yield lambda done: bar.update(task, completed=done)


def _bar(out: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        console=out,
        transient=True,
    )
