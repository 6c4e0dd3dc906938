"""Running a pipeline quietly, and reading what its run left behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.common import REPORTS, SECONDS, publish

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse


@contextmanager
def scratch_folder() -> Iterator[None]:
    """Let this process put its temporary files into one folder that goes away afterwards.

    Steps hand ZenML folders of reports, and cannot know when it has copied them. Child
    processes, such as the model server, are not concerned.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="avito-demand-") as scratch:
        tempfile.tempdir = scratch
        try:
            yield
        finally:
            tempfile.tempdir = before


def latest_run(pipeline: str) -> PipelineRunResponse:
    """Return the run of a pipeline that was started last; others may run beside it."""
    from zenml.client import Client

    runs = Client().list_pipeline_runs(
        pipeline_name=pipeline, sort_by="desc:created", size=1, hydrate=True
    )
    return runs.items[0]


def restore_cached_reports(run: PipelineRunResponse, folder: Path) -> None:
    """Publish the reports of steps that ZenML took from its cache.

    The files in ``folder`` may be those of another run, or gone.
    """
    for step in run.steps.values():
        if str(step.status) == "cached" and REPORTS in step.outputs:
            publish(step.outputs[REPORTS][0].load(), folder)


def timings(run: PipelineRunResponse, wall_seconds: float) -> list[dict[str, Any]]:
    """Return what each step's body took, and what is left for ZenML and start-up.

    Each row has ``part``, ``seconds`` and ``cached``; a cached step took no time.
    """
    rows = []
    for name, step in run.steps.items():
        cached = str(step.status) == "cached"
        seconds = 0.0 if cached else float(step.run_metadata.get(SECONDS, 0.0))
        rows.append({"part": name, "seconds": round(seconds, 1), "cached": cached})
    ours = sum(row["seconds"] for row in rows)
    rest = {"part": "ZenML and start-up", "seconds": round(wall_seconds - ours, 1), "cached": False}
    return [*rows, rest, {"part": "total", "seconds": round(wall_seconds, 1), "cached": False}]
