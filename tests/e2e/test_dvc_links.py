"""Files that the real DVC tracks, each way that it may keep them in its cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cli.main import main
from cli.pipelines import clear
from demand.data.versioning import dvc_version, file_md5
from demand.serving.batch import answer_file
from demand.validation.quarantine import QUARANTINE_COLUMNS, write_quarantine
from demand.workspace.workspace import write_json
from orchestration.steps import publish
from tests.ads_factory import make_ads

pytestmark = pytest.mark.e2e


def dvc(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["symlink", "hardlink", "copy"])
def tracked(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project in which DVC tracks ``ads.csv`` and ``output.csv``."""
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    dvc(tmp_path, "config", "cache.type", request.param)
    make_ads(30, seed=1).to_csv(tmp_path / "ads.csv", index=False)
    (tmp_path / "output.csv").write_text("valuable\n", encoding="utf-8")
    dvc(tmp_path, "add", "--quiet", "ads.csv", "output.csv")
    assert (tmp_path / "output.csv").is_symlink() is (request.param == "symlink")
    return tmp_path


def kept(folder: Path) -> list[Path]:
    """Return the versions in DVC's cache, each of which must be what its name says."""
    objects = sorted((folder / ".dvc" / "cache" / "files" / "md5").rglob("??/*"))
    for path in objects:
        assert file_md5(path) == path.parent.name + path.name
    return objects


class Half:
    def predict(self, ads: pd.DataFrame) -> np.ndarray:
        return np.full(len(ads), 0.5)


def answers(folder: Path) -> None:
    answer_file(Half(), folder / "ads.csv", folder / "output.csv")


def demo(folder: Path) -> None:
    assert main(["demo", "--rows", "9", "--quiet", "--output", str(folder / "output.csv")]) == 0


def json(folder: Path) -> None:
    write_json(folder / "output.csv", 1)


def quarantine(folder: Path) -> None:
    write_quarantine(pd.DataFrame(columns=list(QUARANTINE_COLUMNS)), folder / "output.csv")


def reports(folder: Path) -> None:
    made = folder / "made"
    made.mkdir()
    (made / "output.csv").write_text("new", encoding="utf-8")
    publish(made, folder)


@pytest.mark.parametrize("write", [answers, demo, json, quarantine, reports])
def test_writing_a_tracked_file_leaves_the_version_in_the_cache(
    tracked: Path, write: Callable[[Path], None]
) -> None:
    before = kept(tracked)

    write(tracked)

    assert (tracked / "output.csv").read_text(encoding="utf-8") != "valuable\n"
    assert kept(tracked) == before
    dvc(tracked, "checkout", "--force", "output.csv.dvc")
    assert (tracked / "output.csv").read_text(encoding="utf-8") == "valuable\n"


def test_removing_reports_leaves_the_versions_in_the_cache(tracked: Path) -> None:
    folder = tracked / "reports"
    folder.mkdir()
    os.replace(tracked / "output.csv", folder / "output.csv")
    (tracked / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tracked / "elsewhere")
    before = kept(tracked)

    clear(folder)

    assert list(folder.iterdir()) == []
    assert kept(tracked) == before
    assert (tracked / "elsewhere").is_dir()


def test_a_tracked_file_has_its_version(tracked: Path, tmp_path_factory: pytest.TempPathFactory):
    version = dvc_version(tracked / "ads.csv")

    assert version is not None
    assert (version.source, version.matches) == (tracked / "ads.csv.dvc", True)
    link = tmp_path_factory.mktemp("elsewhere") / "mine.csv"
    link.symlink_to(tracked / "ads.csv")
    assert dvc_version(link) == version
