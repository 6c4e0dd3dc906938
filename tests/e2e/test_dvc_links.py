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


@pytest.fixture(scope="module", params=["symlink", "hardlink", "copy"])
def tracked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which DVC tracks ``ads.csv`` and, for each test, a file named by it."""
    folder = tmp_path_factory.mktemp("tracked")
    dvc(folder, "init", "--no-scm", "--quiet")
    dvc(folder, "config", "cache.type", request.param)
    make_ads(30, seed=1).to_csv(folder / "ads.csv", index=False)
    outputs = [f"{write.__name__}.csv" for write in (*WRITERS, clear)]
    for name in outputs:
        (folder / name).write_text("valuable\n", encoding="utf-8")
    dvc(folder, "add", "--quiet", "ads.csv", *outputs)
    assert (folder / outputs[0]).is_symlink() is (request.param == "symlink")
    return folder


def kept(folder: Path) -> list[Path]:
    """Return the versions in DVC's cache, each of which must be what its name says."""
    objects = sorted((folder / ".dvc" / "cache" / "files" / "md5").rglob("??/*"))
    for path in objects:
        assert file_md5(path) == path.parent.name + path.name
    return objects


class Half:
    def predict(self, ads: pd.DataFrame) -> np.ndarray:
        return np.full(len(ads), 0.5)


def answers(output: Path) -> None:
    answer_file(Half(), output.with_name("ads.csv"), output)


def demo(output: Path) -> None:
    assert main(["demo", "--rows", "9", "--quiet", "--output", str(output)]) == 0


def json(output: Path) -> None:
    write_json(output, 1)


def quarantine(output: Path) -> None:
    write_quarantine(pd.DataFrame(columns=list(QUARANTINE_COLUMNS)), output)


def reports(output: Path) -> None:
    made = output.parent / "made"
    made.mkdir()
    (made / output.name).write_text("new", encoding="utf-8")
    publish(made, output.parent)


WRITERS = (answers, demo, json, quarantine, reports)


@pytest.mark.parametrize("write", WRITERS)
def test_writing_a_tracked_file_leaves_the_version_in_the_cache(
    tracked: Path, write: Callable[[Path], None]
) -> None:
    before, output = kept(tracked), tracked / f"{write.__name__}.csv"

    write(output)

    assert output.read_text(encoding="utf-8") != "valuable\n"
    assert kept(tracked) == before
    dvc(tracked, "checkout", "--force", f"{output.name}.dvc")
    assert output.read_text(encoding="utf-8") == "valuable\n"


def test_removing_reports_leaves_the_versions_in_the_cache(tracked: Path) -> None:
    folder = tracked / "reports"
    folder.mkdir()
    os.replace(tracked / "clear.csv", folder / "clear.csv")
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
