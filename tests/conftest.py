from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from demand.registry.tracking import mlflow_client
from demand.workspace.workspace import PROJECT_ROOT, Workspace

# A busy machine must not fail a property that holds.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Where tests run in several processes, ZenML finds no main module to tell where the project is,
# and two that are new to a store would set it up at the same moment.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("ZENML_CONFIG_PATH", tempfile.mkdtemp(prefix="zenml-"))
    from zenml.utils.source_utils import set_custom_source_root

    set_custom_source_root(str(PROJECT_ROOT))


# Servers of tests leave nothing in the project; tests of the log say where it is to be.
os.environ.setdefault("DEMAND_LOG_URL", "off")


@pytest.fixture(autouse=True)
def _process_is_left_as_it_was() -> Iterator[None]:
    """Undo what a command does to its own process, when a test calls it.

    It sets variables, such as for ``--quiet``, and hears signals.
    """
    before, handlers = dict(os.environ), [(n, signal.getsignal(n)) for n in _SIGNALS]
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)
    for number, handler in handlers:
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def empty_installation(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """MLflow takes ten seconds to create its tables: once for all tests."""
    workspace = Workspace(tmp_path_factory.mktemp("installation"))
    mlflow_client(workspace)
    return workspace


@pytest.fixture
def workspace(
    empty_installation: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """Return a fresh installation of its own, which ``DEMAND_HOME`` names."""
    root = tmp_path / "home"
    shutil.copytree(empty_installation.root, root)
    monkeypatch.setenv("DEMAND_HOME", str(root))
    return Workspace(root)
