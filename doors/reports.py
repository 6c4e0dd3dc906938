"""The reports of a run: those before it are removed, its own are left for people."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demand.state import exclusive, home, reports_folder, write_json

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

STARTED = time.perf_counter()


@contextlib.contextmanager
def alone(pipeline: str) -> Iterator[Path]:
    """Yield the folder of the pipeline's reports, while no other run of it writes there.

    Raises
    ------
    StateError
        Another run of the pipeline uses the same state or reports.
    """
    folder = reports_folder(pipeline)
    with contextlib.ExitStack() as locks:
        locks.enter_context(exclusive(home().locks / f"{pipeline}.lock", pipeline))
        locks.enter_context(exclusive(folder.parent / ".locks" / f"{pipeline}.lock", pipeline))
        # Reports of an earlier run must not pass for those of a run that is refused.
        clear(folder)
        yield folder


def leave_reports(name: str, folder: Path) -> tuple[PipelineRunResponse, list[dict[str, Any]]]:
    """Publish what the run of this name, which just ended, took from the cache, and its timings.

    Raises
    ------
    KeyError
        There is no run of this name.
    """
    from demand.reporting import TIMINGS_FILE
    from pipelines.runs import restore_cached_reports, run_named, timings

    run = run_named(name)
    restore_cached_reports(run, folder)
    took = timings(run, time.perf_counter() - STARTED)
    write_json(folder / TIMINGS_FILE, took)
    return run, took


def clear(folder: Path) -> None:
    """Remove the reports of the run before; what it logged to MLflow and ZenML stays."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
