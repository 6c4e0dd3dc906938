"""Running a pipeline quietly, and reading what its run left behind."""

from __future__ import annotations

import datetime
import secrets
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


def new_run_name(pipeline: str) -> str:
    """Return a name for a run that no other run has, and that says when it was started.

    ZenML's own names have the time only, to which two installations that share its store
    may start a run, and a refused run is not handed back: this one is found by its name.
    """
    now = datetime.datetime.now(datetime.UTC)
    return f"{pipeline}-{now:%Y_%m_%d-%H_%M_%S}-{secrets.token_hex(4)}"


def run_named(name: str) -> PipelineRunResponse:
    """Return the run of this very name, as its store knows it now.

    Raises
    ------
    KeyError
        There is none.
    """
    from zenml.client import Client

    return Client().get_pipeline_run(name, allow_name_prefix_match=False)


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
