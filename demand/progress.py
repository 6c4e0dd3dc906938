"""Progress for people: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from demand.trainer import Epoch

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
            f"  epoch {e.epoch}/{total}: loss {e.train_loss:.4f}, "
            f"validation RMSE {e.validation_rmse:.4f}, at most {e.seconds_left:.0f} s left"
        )
        return
    with _bar(out) as bar:
        task = bar.add_task("  training", total=total)
        yield lambda e: bar.update(
            task,
            advance=1,
            description=f"  training: loss {e.train_loss:.4f}, RMSE {e.validation_rmse:.4f}",
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
