"""What runs leave on this disk: outputs, within bounds, and temporary files, cleaned up.

Nothing that serves reads ZenML's artifacts: what a model is lies in MLflow's store, and what
serves of it in the workspace. So old artifacts are a cache, whatever an alias names.
"""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import starmap
from pathlib import Path
from uuid import UUID

from zenml.client import Client
from zenml.models import PipelineRunResponse
from zenml.orchestrators.output_utils import generate_artifact_uri, remove_artifact_dirs
from zenml.orchestrators.publish_utils import publish_failed_pipeline_run
from zenml.utils.pagination_utils import depaginate

from demand.errors import StateError
from demand.serving.checkpoint import interrupted_answers, remove_answers
from demand.workspace.workspace import current_workspace, exclusive

# What all our pipelines are tagged with: others may share ZenML's store.
_TAG = "demand"


@dataclass(frozen=True)
class CachedRun:
    """A run, and what is on this disk of it alone, or of it and others after it in the list."""

    name: str
    started: str  # UTC, ISO 8601
    ended: bool
    size_bytes: int
    remove: Callable[[], None] = field(repr=False)


def cached_runs(kept: str | None = None) -> list[CachedRun]:
    """Return our runs of which something is on this disk: the newest first.

    Those that go on, and the one named ``kept``, come before all others. What several runs
    have, since ZenML took it from its cache, is counted with the first of them. Answers of a
    batch inference that was interrupted are listed by themselves.
    """
    with _starting():
        _clean_up()
    runs = depaginate(Client().list_pipeline_runs, tags=_TAG, sort_by="desc:created")
    found, seen = list(starmap(_interrupted, interrupted_answers().items())), set[str]()
    for run in sorted(runs, key=lambda run: run.status.is_finished and run.name != kept):
        artifacts, size = dict[UUID, UUID](), 0
        for step in run.steps.values():
            for artifact in (each for outputs in step.outputs.values() for each in outputs):
                if artifact.uri not in seen and Path(artifact.uri).is_dir():
                    artifacts[artifact.id] = step.original_step_run_id or step.id
                    size += _size(artifact.uri)
                seen.add(artifact.uri)
        if artifacts:
            remove = partial(_remove, artifacts)
            ended = run.status.is_finished
            found.append(CachedRun(run.name, _utc(run.created), ended, size, remove))
    found.sort(key=lambda run: run.started, reverse=True)
    return sorted(found, key=lambda run: run.ended and run.name != kept)


def _interrupted(answers: Path, begun: float) -> CachedRun:
    started = _utc(datetime.datetime.fromtimestamp(begun, datetime.UTC).replace(tzinfo=None))
    name = f"interrupted-batch-inference-{answers.name}"
    return CachedRun(name, started, True, _size(answers), partial(remove_answers, answers))


def _utc(time: datetime.datetime) -> str:
    return time.isoformat(timespec="seconds") + "Z"


def _size(folder: str | Path) -> int:
    """Return the size of all files below a folder in bytes; of one that is not on this disk, 0."""
    size = 0
    for path in Path(folder).rglob("*"):
        with suppress(OSError):  # deleted in the meantime
            size += path.stat().st_size if path.is_file() else 0
    return size


def trim_cache(gigabytes: float, kept: str | None = None) -> int:
    """Remove outputs of the oldest runs until all others fit; return the bytes that this freed.

    Outputs of runs that go on stay, those of the run named ``kept``, and what ZenML knows of
    any run. A step whose artifacts are removed runs again when it is needed: also in a run that
    takes it from the cache at this moment, see :func:`orchestration.runs.run_pipeline`.
    """
    bound, freed = gigabytes * 1e9, 0
    workspace = current_workspace()
    folders = (Client().active_stack.artifact_store.path, workspace.batch)
    if sum(map(_size, folders)) <= bound:  # which is known at once
        return 0
    with exclusive(workspace.locks / "cache.lock", "trimming the cache", wait=True):
        runs = cached_runs(kept)
        size = sum(run.size_bytes for run in runs)
        for run in reversed(runs):
            if size - freed > bound and run.ended and run.name != kept:
                run.remove()
                freed += run.size_bytes
    return freed


def _remove(artifacts: dict[UUID, UUID]) -> None:
    """Remove artifacts; who is killed meanwhile leaves none, whole or not, in ZenML's cache."""
    client = Client()
    for step in set(artifacts.values()):
        forget_step(step)
    for artifact in artifacts:
        client.delete_artifact_version(
            artifact, delete_metadata=False, delete_from_artifact_store=True
        )


def forget_step(step_run: UUID) -> None:
    """Take a step run out of ZenML's cache."""
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)  # as the store has it
    Client().update_step_run(step_run, cache_expires_at=now)


@contextmanager
def scratch_folder(run: str) -> Iterator[None]:
    """Let this process put its temporary files into one folder, which goes away with its run.

    Steps hand ZenML folders of reports, and cannot know when it has copied them. Child
    processes, such as the model server, are not concerned. What runs left that were killed,
    or interrupted while they wrote, is removed first.
    """
    workspace = current_workspace()
    # A short path: sockets may have to find room in it.
    folder = workspace.runs / _token(run)
    lock, before = folder.with_suffix(".lock"), tempfile.tempdir
    with ExitStack() as held:
        with _starting():
            _clean_up()
            held.enter_context(exclusive(lock, run))
            folder.mkdir()
        tempfile.tempdir = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)
        lock.unlink()


def _starting() -> AbstractContextManager[None]:
    """Let no other run begin, whose lock is not held yet."""
    lock = current_workspace().locks / "runs.lock"
    return exclusive(lock, "starting a run", wait=True)


def _token(run: str) -> str:
    """Return the end of a run's name, which no other run has."""
    return run.rpartition("-")[2]


def _clean_up() -> None:
    """Remove temporary files and half-written outputs of runs that did not end by themselves.

    ZenML learns that those that were killed have failed.
    """
    for lock in current_workspace().runs.glob("*.lock"):
        with suppress(StateError), exclusive(lock, "cleaning up"):
            for run in Client().list_pipeline_runs(name=f"endswith:-{lock.stem}").items:
                _end(run)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()


def _end(run: PipelineRunResponse) -> None:
    store = Client().active_stack.artifact_store.path
    for step in run.steps.values():
        if not step.status.is_finished:
            uris = [generate_artifact_uri(store, step, name) for name in step.config.outputs]
            remove_artifact_dirs([os.path.dirname(uri) for uri in uris])
    if not run.status.is_finished:
        publish_failed_pipeline_run(run.id)
