# Included by the Makefile: Airflow in an environment of its own.
AIRFLOW_PYTHON ?= python3
AIRFLOW_ENV := .venv-airflow
AIRFLOW_LOCK := deployment/airflow/requirements.lock
AIRFLOW_STAMP := $(AIRFLOW_ENV)/installed.lock

.PHONY: airflow-env airflow airflow-test

airflow-env: ## Airflow's own environment, installed once for each state of its lock file
	@cmp -s $(AIRFLOW_LOCK) $(AIRFLOW_STAMP) || { \
	    $(AIRFLOW_PYTHON) -m venv --clear $(AIRFLOW_ENV) \
	    && $(AIRFLOW_ENV)/bin/python -m pip install --disable-pip-version-check -qq --requirement $(AIRFLOW_LOCK) \
	    && cp $(AIRFLOW_LOCK) $(AIRFLOW_STAMP); }

airflow: env airflow-env ## Airflow with the weekly retraining on http://127.0.0.1:8080 (AIRFLOW_PORT)
	@.venv/bin/python deployment/airflow/standalone.py

airflow-test: dev airflow-env ## Run the DAG for real: a gate that says yes, one that says no
	.venv/bin/python -m pytest -m airflow tests/e2e/test_airflow.py
