"""A run of a pipeline: interruptible, shown as it goes, its cache checked, its reports left."""

from __future__ import annotations

import contextvars
import datetime
import os
import secrets
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
from zenml.client import Client
from zenml.enums import StackComponentType
from zenml.io import fileio
from zenml.orchestrators.publish_utils import publish_failed_pipeline_run

from demand.errors import GateRefusal, StateError
from demand.progress import console, only_warned, run_shown
from demand.registry.tracking import EXPERIMENT, mlflow_client, store_errors, tracking_uri
from demand.reports.training import METRICS_FILE, TIMINGS_FILE, with_lineage
from demand.workspace.workspace import current_workspace, disk_failure, write_json
from orchestration.alerter import run_succeeded
from orchestration.disk import forget_step, scratch_folder, trim_cache
from orchestration.steps import REPORTS, SECONDS, publish

if TYPE_CHECKING:
    from zenml import Model, Pipeline
    from zenml.models import PipelineRunResponse, StepRunResponse

STACK = "avito-demand"
# Outputs that are the ids of a model in MLflow.
_MODELS = ("logged_model", "served_model")
Result = TypeVar("Result")


def run_pipeline(
    pipeline: Pipeline,
    arguments: Sequence[Any],
    folder: Path | None = None,
    *,
    model: Model | None = None,
    cached: bool = True,
    cache_gb: float | None = None,
) -> PipelineRunResponse:
    """Run a pipeline; leave its reports and timings in ``folder``, also where a gate says no.

    Where ZenML takes a step from its cache though what the step left was deleted meanwhile,
    that step runs again. ``model`` is the version in ZenML's control plane that the run belongs
    to; ``cached`` says whether steps may be taken from the cache. When all went well,
    ``cache_gb`` is what the outputs of runs are trimmed to.
    """
    ensure_stack()
    while True:
        name = new_run_name(pipeline.name)
        named = pipeline.with_options(run_name=name, enable_cache=cached, model=model)
        refusal: GateRefusal | None = None
        failure: Exception | None = None
        with scratch_folder(name):
            try:
                try:
                    _run_shown(named, name, arguments)
                except GateRefusal as error:
                    refusal = error
                run = run_named(name)
                if folder is not None:
                    _leave_reports(run, folder)
            except Exception as error:
                failure = error
            full = failure is not None and disk_failure(failure) is not None
            if not full and (gone := forget_deleted(name, thorough=failure is not None)):
                told = f"what {' and '.join(gone)} left was deleted: the steps run again"
                console().print(told, soft_wrap=True)
                continue
            if problem := failure or refusal:
                raise problem
        run_succeeded(pipeline.name)
        if cache_gb is not None:
            _trim(cache_gb, name)
        return run


def _trim(cache_gb: float, name: str) -> None:
    with only_warned("the cache cannot be trimmed"):
        if freed := trim_cache(cache_gb, kept=name):
            told = f"outputs of old runs are removed: {freed / 1e9:.2f} GB beyond data.cache_gb"
            console().print(told, soft_wrap=True)


def _run_shown(pipeline: Pipeline, name: str, arguments: Sequence[Any]) -> None:
    pipeline.prepare(*arguments)
    upstream = {name: each.upstream_steps for name, each in pipeline.invocations.items()}
    with run_shown(upstream):
        try:
            interruptible(lambda: pipeline(*arguments))
        except KeyboardInterrupt:
            with suppress(Exception):  # it is over, whatever its store says
                publish_failed_pipeline_run(run_named(name).id)
            raise


def interruptible(work: Callable[[], Result]) -> Result:
    """Do ``work`` in a thread, so that a signal raises KeyboardInterrupt here at once.

    In the main thread ZenML hears the signal, and asks its store in the middle of the
    transaction that was interrupted. The thread goes on until the process ends, which is
    then to be soon: every write of a run is whole, or is not seen by the next one.
    """
    context = contextvars.copy_context()
    return ThreadPoolExecutor(1).submit(context.run, work).result()


def new_run_name(pipeline: str) -> str:
    """Return a name for a run that no other run has, and that says when it was started.

    ZenML's own names have the time only, to which two installations that share its store
    may start a run, and a refused run is not handed back: this one is found by its name.
    """
    now = datetime.datetime.now(datetime.UTC)
    return f"{pipeline}-{now:%Y_%m_%d-%H_%M_%S}-{secrets.token_hex(4)}"


def run_named(name: str) -> PipelineRunResponse:
    """Return the run of this very name as its store knows it now, or raise KeyError."""
    return Client().get_pipeline_run(name, allow_name_prefix_match=False)


def _leave_reports(run: PipelineRunResponse, folder: Path) -> None:
    took = timings(run, time.time() - psutil.Process().create_time())
    restore_cached_reports(run, folder)
    if (folder / METRICS_FILE).exists() and "trace" in run.steps:
        # Figures of another run keep their values, but the lineage is this run's.
        with_lineage(folder, run.steps["trace"].outputs["lineage"][0].load())
    write_json(folder / TIMINGS_FILE, took)


def restore_cached_reports(run: PipelineRunResponse, folder: Path) -> None:
    """Publish the reports of steps that ZenML took from its cache: others' may lie there."""
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
        seconds = 0.0 if cached else float(step.run_metadata.get(f"{name}_{SECONDS}", 0.0))
        rows.append({"part": name, "seconds": round(seconds, 1), "cached": cached})
    ours = sum(row["seconds"] for row in rows)
    rest = {"part": "ZenML and start-up", "seconds": round(wall_seconds - ours, 1), "cached": False}
    return [*rows, rest, {"part": "total", "seconds": round(wall_seconds, 1), "cached": False}]


def require_experiment(name: str = EXPERIMENT) -> None:
    """Demand that MLflow's experiment was not deleted, which keeps its name taken.

    If it was, a :class:`StateError` has the command that restores it.
    """
    with store_errors(current_workspace()):
        found = mlflow_client().get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise StateError(
            f"the experiment {name} was deleted in MLflow, and nothing can be logged to it; "
            f"restore it: MLFLOW_TRACKING_URI={shlex.quote(tracking_uri())} "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )


def forget_deleted(name: str, *, thorough: bool) -> list[str]:
    """Take out of ZenML's cache the steps of a run whose outputs are gone; return their names.

    ZenML takes a step from its cache without a look at what the step left. Those found here
    run again with the next run of the pipeline. ``thorough`` loads each output, too, since
    a file of it may be gone.
    """
    try:
        run = run_named(name)
    except KeyError:  # it failed before it began
        return []
    gone = []
    for step in run.steps.values():
        original = step.original_step_run_id
        if str(step.status) == "cached" and original and not _is_there(step, thorough):
            forget_step(original)
            gone.append(step.name)
    return gone


def _is_there(step: StepRunResponse, thorough: bool) -> bool:
    try:
        for name in step.config.outputs:
            artifact = step.outputs[name][0]
            if not fileio.exists(artifact.uri):
                return False
            loaded = artifact.load() if thorough or name in _MODELS else None
            if name in _MODELS and not _is_logged(loaded):
                return False
    except Exception as error:
        if isinstance(error, StateError) or disk_failure(error):
            raise
        return False
    return True


def _is_logged(ids: Mapping[str, Any]) -> bool:
    """Say whether MLflow still has a run, not marked as deleted, and its model."""
    client = mlflow_client()
    with store_errors(current_workspace()):
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return False
        where = [experiment.experiment_id]
        runs = client.search_runs(where, f"attributes.run_id = '{ids['run_id']}'")
        models = client.search_logged_models(where, f"model_id = '{ids['model_id']}'")
    return len(runs) > 0 and len(models) > 0


def ensure_stack() -> None:
    """Register a stack with a model deployer, without which ZenML's CLI lists no models.

    It becomes the active one only in place of ZenML's own ``default``; a stack that
    somebody chose stays.
    """
    client = Client()
    if not client.list_stacks(name=STACK).items:
        default = client.get_stack("default").components
        kinds = (StackComponentType.ORCHESTRATOR, StackComponentType.ARTIFACT_STORE)
        parts: dict[StackComponentType, Any] = {kind: default[kind][0].id for kind in kinds}
        kind = StackComponentType.MODEL_DEPLOYER
        # A run that was killed between the two may have left the component.
        if not (known := client.list_stack_components(name=STACK, type=kind).items):
            known = [client.create_stack_component(STACK, "mlflow", kind, configuration={})]
        client.create_stack(name=STACK, components={**parts, kind: known[0].id})
    if "ZENML_ACTIVE_STACK_ID" not in os.environ and client.active_stack_model.name == "default":
        client.activate_stack(STACK)
