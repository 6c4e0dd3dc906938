"""A champion that is overtaken, damaged, or lost while models are trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from demand.demo import write_demo
from demand.registry.registry import Registry
from demand.workspace.workspace import Workspace
from tests.e2e.door import Door
from tests.e2e.installation import Installation, wait_for

pytestmark = pytest.mark.e2e

PREDICTOR = Path("data") / "predictor" / "predictor.json"


@pytest.fixture(scope="module")
def other_ads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ads that make another model than the one that serves."""
    path = tmp_path_factory.mktemp("other") / "other.csv"
    write_demo(path, 1500, 8)
    return path


def registry(installation: Installation) -> Registry:
    return Registry(Workspace(installation.home))


def champion(installation: Installation) -> str | None:
    found = registry(installation).champion()
    return found.version if found else None


def damage(installation: Installation, version: str) -> Path:
    source = registry(installation).version(version).source
    (source / PREDICTOR).write_text("{}", encoding="utf-8")
    return source


def train(installation: Installation, door: Door, ads: Path) -> tuple[int, str]:
    run = door.start(installation, data=ads)
    return run.wait(), run.last_line


def test_a_rollback_between_promotion_and_deployment_is_not_overtaken(
    serving: Installation, door: Door, other_ads: Path
) -> None:
    lenient = serving.write_config("lenient.yaml", gate={"champion_margin": 1.0})
    run = door.start(serving, data=other_ads, config=lenient)
    wait_for(lambda: champion(serving) == "2" or not run.running, 200, "the promotion")
    registry(serving).rollback(reason="at once")
    assert run.wait() == 2, run.printed
    assert "version 1 was made champion before version 2 could serve" in run.last_line
    told = serving.status()
    assert (told["champion"], told["version"], told["healthy"]) == ("1", "1", True)
    assert told["problem"] is None


def test_a_damaged_champion_that_serves_is_told_and_lets_no_other_pass(
    serving: Installation, door: Door, other_ads: Path
) -> None:
    source = damage(serving, "1")
    told = serving.status()
    assert (told["version"], told["healthy"]) == ("1", True)
    assert f"({PREDICTOR} was changed)" in told["problem"]
    status, said = train(serving, door, other_ads)
    assert status == 2
    assert "the champion gate said no: there is nothing to compare with" in said
    assert champion(serving) == "1"

    copy = serving.home / "serving" / "1"
    assert f"restore them from {copy}" in said
    shutil.copytree(copy, source, dirs_exist_ok=True)
    assert serving.status()["problem"] is None


def test_a_rollback_is_the_way_out_of_a_damaged_champion(serving: Installation) -> None:
    damage(serving, "1")
    assert serving.demand("rollback").returncode == 0
    told = serving.status()
    assert (told["champion"], told["version"], told["problem"]) == ("2", "2", None)


def test_where_all_is_lost_the_champion_is_withdrawn_and_another_trained(
    serving: Installation, door: Door, other_ads: Path
) -> None:
    damage(serving, "2")
    assert serving.demand("rollback").returncode == 1
    assert serving.demand("withdraw", "--reason", "no backup").returncode == 0
    # What served goes on until another has taken over.
    assert serving.status()["healthy"]
    status, said = train(serving, door, other_ads)
    assert status == 0, said
    told = serving.status()
    assert (told["champion"], told["version"], told["problem"]) == ("3", "3", None)
