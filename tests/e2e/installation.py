"""An installation of its own in a folder, and what a user does with it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from demand.serving.deployment import status, stop
from demand.serving.http.server import free_port
from demand.workspace.workspace import PROJECT_ROOT, Workspace

RUN_S = 300
AD = {"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}
QUICK: dict[str, dict[str, Any]] = {
    "checks": {"giskard_scan": False},
    "training": {"epochs_max": 1},
    # So few ads and epochs make a poor model, but of the same kind.
    "gate": {"rmse_threshold": 0.3},
}


class Installation:
    """State, reports, ZenML's store and a port that nobody else uses.

    Parameters
    ----------
    folder
        Gets everything that is written.
    data
        The file of ads that is trained on where nothing else is said.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.data = data
        self.home = folder / "home"
        self.reports = folder / "reports" / "training"
        self.zenml_store = folder / "zenml"
        self.port = free_port(21000 + os.getpid() % 2000)
        self.environment = {
            **os.environ,
            "DEMAND_HOME": str(self.home),
            "DEMAND_REPORTS": str(self.reports.parent),
            "ZENML_CONFIG_PATH": str(self.zenml_store),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "OMP_NUM_THREADS": "1",
        }
        self.config = self.write_config("training.yaml")

    def write_config(self, name: str, *, seed: int = 42, **sections: dict[str, Any]) -> Path:
        """Write a config for quick runs on the installation's port, with other values."""
        settings: dict[str, Any] = {"seed": seed, "deploy": {"port": self.port}}
        for overrides in (QUICK, sections):
            for section, values in overrides.items():
                settings[section] = settings.get(section, {}) | values
        path = self.folder / name
        path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        return path

    def training_command(
        self, *arguments: str, data: Path | None = None, config: Path | None = None
    ) -> list[str]:
        return [
            *(sys.executable, "run.py", "--pipeline", "training"),
            *("--data", str(data or self.data), "--config", str(config or self.config)),
            *arguments,
        ]

    def run(
        self, command: Sequence[str], timeout: float = RUN_S, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the project, as a user of this installation."""
        return subprocess.run(
            command,
            cwd=PROJECT_ROOT,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def run_training(
        self, *arguments: str, data: Path | None = None, config: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the training pipeline through its door, and wait for its end."""
        return self.run(self.training_command(*arguments, data=data, config=config))

    def demand(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run([sys.executable, "-m", "cli.main", *arguments])

    def zenml(self, *arguments: str) -> str:
        """Return what ZenML's own command line prints, on both streams, with no cell cut."""
        done = self.run(["zenml", *arguments], COLUMNS="400", ZENML_ANALYTICS_OPT_IN="false")
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """Return what ``demand status --json`` tells, without its process."""
        return dataclasses.asdict(status(Workspace(self.home)))

    def metrics(self) -> dict[str, Any]:
        return json.loads((self.reports / "metrics.json").read_text(encoding="utf-8"))

    def latest_run(self) -> str | None:
        """Return the id of the run that ZenML's store saw last."""
        found = self._ask_store("select id from pipeline_run order by created desc limit 1")
        return found[0] if found else None

    def running_step(self, after: str | None) -> str | None:
        """Return the step that is running, in the newest run if that is not ``after``."""
        run = self.latest_run()
        if run is None or run == after:
            return None
        found = self._ask_store(
            "select name from step_run where status = 'running' and pipeline_run_id = ?", run
        )
        return found[0] if found else None

    def _ask_store(self, query: str, *values: str) -> tuple[str, ...] | None:
        """Return the first row, read from ZenML's database beside whoever writes it."""
        database = self.zenml_store / "local_stores" / "default_zen_store" / "zenml.db"
        rows = rows_of(database, query, *values)
        return rows[0] if rows else None

    def start_from(self, prepared: Installation) -> None:
        """Take over the stores of an installation in which nothing was done yet."""
        for mine, its in (
            (self.home, prepared.home),
            (self.zenml_store, prepared.zenml_store),
        ):
            shutil.copytree(its, mine)
        # ZenML keeps the path of its database.
        config = self.zenml_store / "config.yaml"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace(str(prepared.folder), str(self.folder)), encoding="utf-8")

    def stop(self) -> None:
        stop(Workspace(self.home))


def rows_of(database: Path, query: str, *values: str) -> list[tuple[str, ...]]:
    """Return what a query finds in a SQLite file, beside whoever writes it."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
            return store.execute(query, values).fetchall()
    except sqlite3.OperationalError:  # not there yet, or locked
        return []


def answer(endpoint: str) -> float:
    """Ask a model server about one raw ad."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy for loopback
        reply = session.post(endpoint, json={"dataframe_records": [AD]}, timeout=30)
    reply.raise_for_status()
    return float(reply.json()["predictions"][0])


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
