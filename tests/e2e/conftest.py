"""What the tests of whole pipelines share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demand.config import DeploySettings
from demand.demo import write_demo
from demand.serving.deployment import stop
from demand.serving.http.server import free_port
from demand.workspace.workspace import Workspace
from tests.e2e.door import Door
from tests.e2e.installation import Installation
from tests.e2e.standins import register_two, start_from

ROWS, SEED = 1500, 7


@pytest.fixture(scope="session")
def demo_ads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of demo ads, large enough for every gate."""
    path = tmp_path_factory.mktemp("ads") / "ads.csv"
    write_demo(path, ROWS, SEED)
    return path


@pytest.fixture(scope="session")
def door(tmp_path_factory: pytest.TempPathFactory) -> Door:
    """Return what starts training runs without waiting for their imports."""
    return Door(tmp_path_factory.mktemp("door"))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, demo_ads: Path, door: Door) -> Installation:
    """ZenML and MLflow take long to create their tables: once for all tests."""
    installation = Installation(tmp_path_factory.mktemp("prepared"), demo_ads)
    door.make_stores(installation)
    return installation


@pytest.fixture(scope="module")
def new_installation(
    tmp_path_factory: pytest.TempPathFactory, prepared: Installation
) -> Iterator[Callable[[], Installation]]:
    """Return a maker of empty installations; what they serve is stopped at the end."""
    made: list[Installation] = []

    def make() -> Installation:
        made.append(Installation(tmp_path_factory.mktemp("installation"), prepared.data))
        made[-1].start_from(prepared)
        return made[-1]

    yield make
    for installation in made:
        installation.stop()


@pytest.fixture(scope="module")
def installation(new_installation: Callable[[], Installation]) -> Installation:
    """Return an empty installation that the tests of one module share."""
    return new_installation()


@pytest.fixture(scope="module")
def serving(installation: Installation, door: Door) -> Installation:
    """Return the module's installation after a first training, serving version 1."""
    run = door.start(installation)
    assert run.wait() == 0, run.printed
    return installation


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("installation"))
    register_two(workspace)
    return workspace


@pytest.fixture
def workspace(
    two_versions: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path / "home")
    start_from(two_versions, workspace)
    monkeypatch.setenv("DEMAND_HOME", str(workspace.root))
    yield workspace
    stop(workspace)


@pytest.fixture
def settings() -> DeploySettings:
    return DeploySettings(port=free_port(24000 + os.getpid() % 2000))
