"""An installation that was moved, copied, or is reached by another name."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import run
from cli.main import main
from demand.errors import StateError
from demand.registry.packaging import log_model
from demand.registry.registry import Registry
from demand.registry.tracking import start_run
from demand.registry.versions import read_champion
from demand.schema.columns import TARGET
from demand.workspace.workspace import Workspace, current_workspace
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_predictor

AD = {"title": "Велосипед горный", "category_name": "Велосипеды"}
Captured = pytest.CaptureFixture[str]
Name = Callable[[Path], None]


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Name:
    """Return what makes a folder the one that ``DEMAND_HOME`` names."""
    return lambda folder: monkeypatch.setenv("DEMAND_HOME", str(folder))


def promote() -> None:
    model_id = log_model(start_run("training"), tiny_predictor(), make_ads(8).drop(columns=TARGET))
    version = Registry().register_challenger(
        model_id, data_md5="", fingerprint=model_id, metrics={"rmse": 0.2}
    )
    Registry().promote(version.version, "test")


@pytest.fixture
def original(workspace: Workspace) -> Path:
    promote()
    return workspace.root


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Return the paths of an ad and of a file of ads."""
    (tmp_path / "ad.json").write_text(json.dumps(AD), encoding="utf-8")
    make_ads(300).to_csv(tmp_path / "ads.csv", index=False)
    return str(tmp_path / "ad.json"), str(tmp_path / "ads.csv")


def commands(ad: str, ads: str) -> list[tuple[Callable[[list[str]], int], list[str]]]:
    """Return all that reads or writes the state."""
    answers = ["--output", f"{ads}.answers"]
    return [
        (main, ["status"]),
        (main, ["history"]),
        (main, ["serve"]),
        (main, ["stop"]),
        (main, ["rollback", "--to", "1"]),
        (main, ["withdraw"]),
        (main, ["predict", "--ad", ad]),
        (main, ["explain", "--ad", ad]),
        (main, ["api", "--port", "0"]),
        (main, ["dashboard"]),
        (run.main, ["--pipeline", "training", "--data", ads]),
        (run.main, ["--pipeline", "tuning", "--data", ads]),
        (run.main, ["--pipeline", "batch-inference", "--data", ads, *answers]),
        (run.main, ["--pipeline", "production-evaluation", "--data", ads]),
    ]


def written(folder: Path) -> dict[str, int]:
    """Return each file below a folder with the time of its last change."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMAND_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))


def test_state_that_was_moved_is_refused_by_every_command_and_goes_on_where_it_was(
    original: Path, tmp_path: Path, name: Name, files: tuple[str, str], capfd: Captured
) -> None:
    moved = tmp_path / "moved"
    original.rename(moved)
    name(moved)
    for door, argv in commands(*files):
        assert door(argv) == 1, argv
        said = capfd.readouterr().err
        assert f"the state in {moved} was made in {original}" in said, argv
        assert "move it back" in said
    assert not original.exists()
    moved.rename(original)
    name(original)
    assert main(["predict", "--ad", files[0]]) == 0


def test_a_copy_is_refused_by_every_command_and_leaves_its_original_alone(
    original: Path, tmp_path: Path, name: Name, files: tuple[str, str], capfd: Captured
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    before = written(original)
    name(copy)
    for door, argv in commands(*files):
        assert door(argv) == 1, argv
        said = capfd.readouterr().err
        assert f"the state in {copy} is a copy of that in {original}" in said, argv
        assert f"set DEMAND_HOME to {original}" in said
    assert written(original) == before


def test_a_link_at_the_old_place_is_the_way_out_of_a_move(
    original: Path, tmp_path: Path, name: Name, files: tuple[str, str]
) -> None:
    moved = tmp_path / "moved 2"
    original.rename(moved)
    name(moved)
    with pytest.raises(StateError) as refused:
        current_workspace()
    command = str(refused.value).split("`")[1]
    subprocess.run(shlex.split(command), check=True)
    for path in (moved, original):
        name(path)
        assert current_workspace().root == moved
        assert main(["predict", "--ad", files[0]]) == 0
    promote()
    assert [version.version for version in Registry().versions()] == ["1", "2"]
    assert Registry().version("2").source.is_dir()


def test_what_was_written_to_the_old_place_after_a_move_is_brought_together_again(
    original: Path, tmp_path: Path, name: Name
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(original, moved)
    # As where a model was trained after the move: files of both places are needed.
    (original / "mlflow.db").unlink()
    shutil.rmtree(moved / "artifacts")
    name(moved)
    with pytest.raises(StateError, match=f"made in {original}.*move its files back beside those"):
        current_workspace()
    shutil.copytree(moved, original, dirs_exist_ok=True)
    name(original)
    champion = Registry().champion()
    assert champion is not None
    assert champion.source.is_dir()


@pytest.mark.parametrize("by", ["a link", "a relative path", "a path with dots"])
def test_the_same_folder_by_another_name_is_no_other(
    original: Path, tmp_path: Path, name: Name, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(original)
    other = {"a link": tmp_path / "link", "a relative path": Path(original.name)}
    name(other.get(by, original / ".." / original.name))
    champion = Registry().champion()
    assert champion is not None
    assert champion.source.is_dir()


def test_state_that_was_made_through_a_link_goes_on(
    empty_installation: Workspace, tmp_path: Path, name: Name
) -> None:
    shutil.copytree(empty_installation.root, tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    name(tmp_path / "link")
    promote()
    name(tmp_path / "real")
    assert Registry().champion() is not None


def test_state_with_nothing_in_it_may_be_copied(
    workspace: Workspace, tmp_path: Path, name: Name
) -> None:
    shutil.copytree(workspace.root, tmp_path / "copy")
    name(tmp_path / "copy")
    promote()
    champion = Registry().champion()
    assert champion is not None
    assert champion.source.is_relative_to(tmp_path / "copy")


def test_an_experiment_of_the_users_own_may_lie_anywhere(original: Path, tmp_path: Path) -> None:
    from demand.registry.tracking import mlflow_client

    mlflow_client().create_experiment("own", (tmp_path / "own").as_uri())
    assert current_workspace().root == original


def test_while_the_database_is_locked_the_place_is_not_taken_for_granted(
    original: Path,
) -> None:
    with sqlite3.connect(original / "mlflow.db", isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateError, match=r"another process is using .*mlflow\.db: try again"):
            current_workspace()
        lock.execute("ROLLBACK")


@pytest.mark.parametrize("folder", ["a#b", "a b", "100%", "прод;x&y", "it's"])
def test_an_installation_works_whatever_its_folder_is_called(
    empty_installation: Workspace,
    tmp_path: Path,
    name: Name,
    folder: str,
    files: tuple[str, str],
) -> None:
    root = tmp_path / "below" / folder
    shutil.copytree(empty_installation.root, root)
    name(root)
    promote()
    assert main(["predict", "--ad", files[0]]) == 0
    champion = read_champion(Workspace(root))
    assert champion is not None
    assert champion.source.is_relative_to(root)
    assert os.listdir(tmp_path / "below") == [folder]
