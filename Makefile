# One door to everything that needs more than one command. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
LOCK := requirements.lock
STAMP := $(VENV)/installed
# What only tests, checks and benchmarks need, into the same environment.
DEV_LOCK := requirements-dev.lock
DEV_STAMP := $(VENV)/installed-dev
FREEZE = .venv-lock/bin/python -m pip freeze --all --exclude-editable | grep -v '^pip==' | sed -E 's/\+cpu$$//'
# Fixtures of a module are made once, so a file stays in one process.
PARALLEL := --numprocesses 2 --dist loadfile
PIP_INSTALL := -m pip install --disable-pip-version-check -qq
# The environment's programs come first: ZenML and MLflow start some of theirs by name.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
AIRFLOW_PYTHON := $(PYTHON)

include deployment/airflow/airflow.mk

.PHONY: help env dev training test test-fast check format lock dashboard image container-test

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

env: $(STAMP) ## The project's environment, installed from the lock file

$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else f"Python 3.11 or 3.12 is needed, {sys.executable} is {sys.version.split()[0]}: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python $(PIP_INSTALL) --requirement $(LOCK)
	$(VENV)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

dev: $(DEV_STAMP) ## That, and what tests, checks and benchmarks need

$(DEV_STAMP): $(STAMP) $(DEV_LOCK)
	$(VENV)/bin/python $(PIP_INSTALL) --requirement $(DEV_LOCK)
	@touch $@

training: env ## Train on the demo ads, check, and serve the model
	python run.py --pipeline training

dashboard: env ## ZenML's dashboard and MLflow's UI on loopback
	demand dashboard

check: dev ## Style, types, floors
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test: dev airflow-env ## All tests
	python -m pytest $(PARALLEL)

test-fast: dev ## Tests that start no servers
	python -m pytest $(PARALLEL) -m 'not e2e and not airflow'

image: env ## Container image of the champion (BASE, ENGINE, BUILD_FLAGS)
	deployment/container/build $(BUILD_FLAGS)

container-test: dev ## Build that image from Debian's packages and ask it (root, buildah, debootstrap)
	CONTAINER_TEST=1 python -m pytest -m container tests/e2e/test_container.py

format: dev ## Put the code into its style
	ruff check --fix .
	ruff format .

lock: ## Resolve pyproject.toml anew into the lock files
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python $(PIP_INSTALL) setuptools 'torch==2.13.0'
	.venv-lock/bin/python $(PIP_INSTALL) --editable '.[dev]'
	$(FREEZE) > .venv-lock/all
	$(PYTHON) -m venv .venv-lock/run
	.venv-lock/run/bin/python $(PIP_INSTALL) --constraint .venv-lock/all setuptools --editable .
	$(subst .venv-lock,.venv-lock/run,$(FREEZE)) > .venv-lock/needed
	{ echo '# Every dependency at an exact version, written by `make lock`.'; cat .venv-lock/needed; } > $(LOCK)
	{ echo '# What tests, checks and benchmarks need besides $(LOCK), written by `make lock`.'; comm -23 <(sort .venv-lock/all) <(sort .venv-lock/needed); } > $(DEV_LOCK)
	rm -rf .venv-lock
