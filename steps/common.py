"""What all steps share: how they are cached, timed, and keep their reports."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from zenml import get_step_context, log_metadata, save_artifact
from zenml.config.cache_policy import CachePolicy
from zenml.types import HTMLString

from demand.errors import GateRefusal
from demand.lineage import code_fingerprint
from demand.state import reports_folder, write_aside

SECONDS = "seconds"
REPORTS = "reports"

# ZenML's own key covers a step's function, parameters and inputs; all other code of ours
# and the libraries' versions are added. Where a model comes from does not change it.
CACHED = CachePolicy(cache_func=code_fingerprint, ignored_inputs=["lineage"])


@contextmanager
def timed() -> Iterator[None]:
    """Record how long the body of the current step took, as its metadata."""
    started = time.perf_counter()
    try:
        yield
    finally:
        log_metadata({SECONDS: round(time.perf_counter() - started, 3)})


def refuse(gate: str, reason: str, **pages: HTMLString) -> NoReturn:
    """End the run, and leave the step's pages in the dashboard, where they are needed now.

    A step that raises has no outputs; so the pages are saved by hand.
    """
    for name, page in pages.items():
        save_artifact(page, name=name)
    raise GateRefusal(gate, reason)


def pipeline_reports() -> Path:
    """Return the folder of reports of the pipeline that the current step runs in."""
    return reports_folder(get_step_context().pipeline.name)


def publish(reports: Path, folder: Path) -> None:
    """Put a step's reports where people read them; each file is replaced whole."""
    for source in sorted(path for path in reports.rglob("*") if path.is_file()):
        with write_aside(folder / source.relative_to(reports)) as aside:
            shutil.copyfile(source, aside)
