from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from demand.serving.tracking import mlflow_client
from demand.state import Home


@pytest.fixture(scope="session")
def empty_installation(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """MLflow takes ten seconds to create its tables: once for all tests."""
    place = Home(tmp_path_factory.mktemp("installation"))
    mlflow_client(place)
    return place


@pytest.fixture
def place(empty_installation: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return a fresh installation of its own, which ``DEMAND_HOME`` names."""
    root = tmp_path / "home"
    shutil.copytree(empty_installation.root, root)
    monkeypatch.setenv("DEMAND_HOME", str(root))
    return Home(root)
