"""What the tests of whole pipelines share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demand.demo import write_demo
from tests.e2e.door import Door
from tests.e2e.installation import Installation

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


@pytest.fixture(scope="module")
def new_installation(
    tmp_path_factory: pytest.TempPathFactory, demo_ads: Path
) -> Iterator[Callable[[], Installation]]:
    """Return a maker of empty installations; what they serve is stopped at the end."""
    made: list[Installation] = []

    def make() -> Installation:
        made.append(Installation(tmp_path_factory.mktemp("installation"), demo_ads))
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
