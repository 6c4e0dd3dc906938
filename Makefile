# One door to everything that needs more than one command. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
LOCK := requirements.lock
STAMP := $(VENV)/installed
# The environment's programs come first: ZenML and MLflow start some of theirs by name.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
AIRFLOW_PYTHON := $(PYTHON)

include deployment/airflow/airflow.mk

.PHONY: help env training test test-fast check format lock dashboard image container-test

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

env: $(STAMP) ## The project's environment, installed from the lock file

$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else f"Python 3.11 or 3.12 is needed, {sys.executable} is {sys.version.split()[0]}: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -qq --requirement $(LOCK)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -qq --no-deps --no-build-isolation --editable .
	@touch $@

training: env ## Train on the demo ads, check, and serve the model
	python run.py --pipeline training

dashboard: env ## ZenML's dashboard and MLflow's UI on loopback
	demand dashboard

check: env ## Style, types, floors
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test: env airflow-env ## All tests
	python -m pytest

test-fast: env ## Tests that start no servers
	python -m pytest -m 'not e2e and not airflow'

image: env ## Container image of the champion (BASE, ENGINE, BUILD_FLAGS)
	deployment/container/build $(BUILD_FLAGS)

container-test: env ## Build that image from Debian's packages and ask it (root, buildah, debootstrap)
	CONTAINER_TEST=1 python -m pytest -m container tests/e2e/test_container.py

format: env ## Put the code into its style
	ruff check --fix .
	ruff format .

lock: ## Resolve pyproject.toml anew into the lock file
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --disable-pip-version-check -qq setuptools 'torch==2.13.0'
	.venv-lock/bin/python -m pip install --disable-pip-version-check -qq --editable '.[dev]'
	{ echo '# Every dependency at an exact version, written by `make lock`.'; .venv-lock/bin/python -m pip freeze --all --exclude-editable | grep -v '^pip==' | sed -E 's/\+cpu$$//'; } > $(LOCK)
	rm -rf .venv-lock
