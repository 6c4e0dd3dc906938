"""Retrains the model every week with ``python run.py --pipeline training``.

How a run looks in the grid:

=====================  =========  ============  ================  =========
the job's exit status  retrain    deployed      gate_said_no      the run
=====================  =========  ============  ================  =========
0, deployed            success    success       skipped           success
2, a gate said no      skipped    skipped       success           success
1, an error            retried, then failed     skipped           failed
64, wrong usage        failed at once           skipped           failed
=====================  =========  ============  ================  =========

A gate's no is an answer, not a failure: it is not retried, and alerts that watch for
failed runs stay silent. It is seen all the same: ``gate_said_no`` runs then and only
then, shows the reason, and is the place for a notification of its own.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Param, TriggerRule, Variable, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from exit_policy import Outcome, judge
from training_job import TrainingJob, training_command, training_environment

PROJECT = "AVITO_DEMAND_PROJECT"
THIS_REPOSITORY = Path(__file__).resolve().parents[3]
REASON = "reason"


def minutes(name: str, default: float) -> timedelta:
    """Read a duration in minutes from the environment variable ``name``."""
    return timedelta(minutes=float(os.environ.get(name, default)))


def project_folder() -> Path:
    """Return the project to train: an Airflow Variable, the environment, or this repository."""
    named = Variable.get(PROJECT, default=None) or os.environ.get(PROJECT)
    return Path(named).expanduser().resolve() if named else THIS_REPOSITORY


class TrainingOperator(BaseOperator):
    """Runs the training pipeline, shows its output in the task's log, obeys its exit status."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._job: TrainingJob | None = None

    def execute(self, context: Any) -> str:
        """Train; the message of the verdict is the return value.

        Raises
        ------
        AirflowSkipException
            A gate said no; the reason is in the XCom ``reason``.
        AirflowFailException
            Wrong usage, unknown parameters, or a project that is not set up: another try
            would not help.
        AirflowException
            Any other error; Airflow tries again.
        """
        project = project_folder()
        params = context["params"]
        if unknown := sorted(set(params) - {"data", "config"}):
            raise AirflowFailException(f"unknown parameters {unknown}: known are data and config")
        try:
            command = training_command(project, params["data"], params["config"])
        except FileNotFoundError as error:
            raise AirflowFailException(str(error)) from error
        self.log.info("In %s: %s", project, command)
        self._job = TrainingJob(command, project, training_environment(project, os.environ))
        verdict = judge(self._job.run(self.log.info), self._job.last_lines)
        if verdict.outcome is Outcome.REFUSED:
            context["ti"].xcom_push(key=REASON, value=verdict.message)
            raise AirflowSkipException(verdict.message)
        if verdict.outcome is Outcome.WRONG_USAGE:
            raise AirflowFailException(verdict.message)
        if verdict.outcome is Outcome.ERROR:
            raise AirflowException(verdict.message)
        return verdict.message

    def on_kill(self) -> None:
        """End the job with all it started: the time-out, or a person, ended the task."""
        if self._job is not None:
            self._job.stop()


def path_param(what: str, default: str) -> Param:
    """Return the parameter of a file's path: empty means the default, one line, no NUL."""
    return Param(
        None,
        type=["null", "string"],
        pattern=r"^[^\x00-\x1f]*$",
        maxLength=4096,
        title=what,
        description=f"Path, absolute or from the project's folder. Empty: {default}.",
    )


with DAG(
    dag_id="retraining",
    description="Retrain every week; serve the new model if its gates say yes",
    # Monday 03:00 UTC. The hour is how late the very first run may still start: without it,
    # switching the DAG on would train at once.
    schedule=CronTriggerTimetable("0 3 * * 1", timezone="UTC", run_immediately=timedelta(hours=1)),
    catchup=False,
    max_active_runs=1,
    params={
        "data": path_param("Ads to train on (CSV, zip, gz, parquet)", "the demo ads"),
        "config": path_param("Configuration (YAML)", "configs/training.yaml"),
    },
    tags=["avito-demand"],
    doc_md=__doc__,
):
    retrain = TrainingOperator(
        task_id="retrain",
        execution_timeout=minutes("AVITO_DEMAND_TIMEOUT_MINUTES", 120),
        retries=2,
        retry_delay=minutes("AVITO_DEMAND_RETRY_MINUTES", 10),
        retry_exponential_backoff=2,
        max_retry_delay=timedelta(hours=2),
    )

    @task(trigger_rule=TriggerRule.ALL_SKIPPED)
    def gate_said_no(**context: Any) -> str:
        """Show why the gate refused; put a notification here if a no should be announced."""
        reason: str = context["ti"].xcom_pull(task_ids="retrain", key=REASON)
        return reason

    retrain >> [EmptyOperator(task_id="deployed"), gate_said_no()]
