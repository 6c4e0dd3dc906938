"""Retrains the model every week with ``python run.py --pipeline training``.

How a run looks in the grid:

========================  =========  ============  ================  =========
exit status of run.py     retrain    deployed      gate_said_no      the run
========================  =========  ============  ================  =========
0, deployed               success    success       skipped           success
2, a gate said no         skipped    skipped       success           success
another, or a signal      retried, then failed     skipped           failed
========================  =========  ============  ================  =========

A gate's no is an answer, not a failure: it is not retried, and alerts that watch for
failed runs stay silent. It is seen all the same: ``gate_said_no`` succeeds then and only
then, and is the place for a notification of its own. The reason is at the end of the log
of ``retrain``.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronTriggerTimetable, Param, TriggerRule

THIS_REPOSITORY = Path(__file__).resolve().parents[3]
# Airflow's variables can hold its database's password and its keys: the job gets none of them.
# timeout(1) hands Airflow's SIGTERM on to the process group of the job, and kills it 30 s later;
# a model server has a session of its own and goes on serving.
RETRAIN = """
if [ ! -f run.py ] || [ ! -x .venv/bin/python ]; then
    echo "error: $PWD is not set up: run 'make training' in it once, or name the project in" \
        "the Airflow Variable or environment variable AVITO_DEMAND_PROJECT"
    exit 64
fi
if [ -n "$RETRAIN_UNKNOWN" ]; then
    echo "error: unknown parameters: $RETRAIN_UNKNOWN; known are data and config"
    exit 64
fi
unset ${!AIRFLOW*} ${!_AIRFLOW*} ${!__AIRFLOW*} PYTHONHOME PYTHONPATH VIRTUAL_ENV
export PATH="$PWD/.venv/bin:$PATH" PYTHONUNBUFFERED=1
trap 'kill $job; wait $job; exit 143' TERM
$(command -v timeout >/dev/null && echo timeout --kill-after=30 0) \
    .venv/bin/python run.py --pipeline training \
    ${RETRAIN_DATA:+"--data=$RETRAIN_DATA"} ${RETRAIN_CONFIG:+"--config=$RETRAIN_CONFIG"} &
job=$!
wait $job
"""


def minutes(name: str, default: float) -> timedelta:
    """Read a duration in minutes from the environment variable ``name``."""
    return timedelta(minutes=float(os.environ.get(name, default)))


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
    user_defined_macros={
        "default_project": os.environ.get("AVITO_DEMAND_PROJECT") or str(THIS_REPOSITORY)
    },
    user_defined_filters={"expanduser": os.path.expanduser},
    tags=["avito-demand"],
    doc_md=__doc__,
):
    retrain = BashOperator(
        task_id="retrain",
        bash_command=RETRAIN,
        skip_on_exit_code=2,
        cwd="{{ (var.value.get('AVITO_DEMAND_PROJECT', '') or default_project) | expanduser }}",
        append_env=True,
        # In variables, since what stands in the command itself is read by the shell.
        env={
            "RETRAIN_DATA": "{{ params.data or '' }}",
            "RETRAIN_CONFIG": "{{ params.config or '' }}",
            "RETRAIN_UNKNOWN": "{{ params | reject('in', ['data', 'config']) | sort | join(' ') }}",
        },
        execution_timeout=minutes("AVITO_DEMAND_TIMEOUT_MINUTES", 120),
        retries=2,
        retry_delay=minutes("AVITO_DEMAND_RETRY_MINUTES", 10),
        retry_exponential_backoff=2,
        max_retry_delay=timedelta(hours=2),
    )
    retrain >> [
        EmptyOperator(task_id="deployed"),
        EmptyOperator(task_id="gate_said_no", trigger_rule=TriggerRule.ALL_SKIPPED),
    ]
