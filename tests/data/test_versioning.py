import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from demand.data import versioning
from demand.data.versioning import (
    DvcVersion,
    demo_file,
    dvc_version,
    ensure_demo_ads,
    file_md5,
    git_commit,
    keep_metrics,
)
from demand.errors import StateError

ADS = b"item_id,title\na,b\n"
ADS_MD5 = hashlib.md5(ADS, usedforsecurity=False).hexdigest()
OTHER_MD5 = "f" * 32
ROWS, SEED = 20_000, 2017


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(versioning, "PROJECT_ROOT", tmp_path)
    # DVC itself is not started here, see e2e/test_dvc.py.
    monkeypatch.setattr(versioning, "_store", lambda _: False)
    return tmp_path


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Replace the generator by a stand-in that writes ``ADS`` and notes what was asked for."""
    asked: list[tuple[int, int]] = []

    def write_demo(path: Path, rows: int, seed: int) -> str:
        asked.append((rows, seed))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(ADS)
        return ADS_MD5

    standin = ModuleType("demand.demo")
    standin.write_demo = write_demo
    monkeypatch.setitem(sys.modules, "demand.demo", standin)
    return asked


def pin(project: Path, md5: str) -> None:
    text = f"outs:\n- path: data/demo.csv\n  hash: md5\n  md5: {md5}\n"
    (project / "data.dvc").write_text(text, encoding="utf-8")


def write_ads(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ADS)
    return path


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A file of code in a git repository of its own, committed."""
    (tmp_path / "demand").mkdir()
    file = tmp_path / "demand" / "code.py"
    file.write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "metrics").mkdir()
    for name in ("dvc.lock", "metrics/metrics.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return file


def test_the_md5_of_a_file_is_that_of_its_bytes(tmp_path: Path):
    assert file_md5(write_ads(tmp_path / "ads.csv")) == ADS_MD5


def test_a_file_pinned_at_the_top_of_the_project_has_that_version(project: Path):
    pin(project, ADS_MD5)
    ads = write_ads(project / "data" / "demo.csv")

    assert dvc_version(ads) == DvcVersion(project / "data.dvc", ADS_MD5, matches=True)


def test_a_file_that_changed_since_it_was_pinned_does_not_match(project: Path):
    pin(project, OTHER_MD5)
    ads = write_ads(project / "data" / "demo.csv")

    assert dvc_version(ads) == DvcVersion(project / "data.dvc", OTHER_MD5, matches=False)


def test_a_file_tracked_by_dvc_add_has_a_version(project: Path):
    ads = write_ads(project / "mine" / "ads.csv")
    beside = project / "mine" / "ads.csv.dvc"
    beside.write_text(f"outs:\n- md5: {ADS_MD5}\n  path: ads.csv\n", encoding="utf-8")

    assert dvc_version(ads) == DvcVersion(beside, ADS_MD5, matches=True)


def test_a_working_folder_in_a_dvc_file_is_followed(project: Path):
    ads = write_ads(project / "data" / "demo.csv")
    text = f"wdir: data\nouts:\n- md5: {ADS_MD5}\n  path: demo.csv\n"
    (project / "demo.dvc").write_text(text, encoding="utf-8")

    assert dvc_version(ads) == DvcVersion(project / "demo.dvc", ADS_MD5, matches=True)


def test_a_link_into_the_cache_has_the_version_of_its_own_place(project: Path):
    pin(project, ADS_MD5)
    cached = write_ads(project / ".dvc" / "cache" / "files" / "md5" / ADS_MD5[:2] / ADS_MD5[2:])
    ads = project / "data" / "demo.csv"
    ads.symlink_to(cached)
    link = project / "mine.csv"
    link.symlink_to("data/demo.csv")

    assert dvc_version(ads) == DvcVersion(project / "data.dvc", ADS_MD5, matches=True)
    assert dvc_version(link) == dvc_version(ads)
    assert dvc_version(cached) is None


def test_a_file_that_a_stage_wrote_has_the_version_of_the_lock(project: Path):
    ads = write_ads(project / "data" / "clean.csv")
    out = f"{{path: data/clean.csv, md5: {ADS_MD5}}}"
    text = f"stages:\n  clean:\n    cmd: x\n    outs: [{out}]\n"
    (project / "dvc.lock").write_text(text, encoding="utf-8")

    assert dvc_version(ads) == DvcVersion(project / "dvc.lock", ADS_MD5, matches=True)


def test_a_known_md5_spares_reading_the_file(project: Path):
    pin(project, OTHER_MD5)
    ads = write_ads(project / "data" / "demo.csv")

    version = dvc_version(ads, md5=OTHER_MD5)

    assert version is not None
    assert version.matches


def test_a_file_that_dvc_does_not_track_has_no_version(project: Path):
    pin(project, ADS_MD5)

    assert dvc_version(write_ads(project / "data" / "other.csv")) is None


def test_a_pin_without_a_version_is_no_version(project: Path):
    (project / "data.dvc").write_text("outs:\n- path: data/demo.csv\n", encoding="utf-8")

    assert dvc_version(write_ads(project / "data" / "demo.csv")) is None


def test_dvc_files_outside_a_dvc_project_do_not_count(tmp_path: Path):
    pin(tmp_path, ADS_MD5)

    assert dvc_version(write_ads(tmp_path / "data" / "demo.csv")) is None


@pytest.mark.parametrize("damage", [b"outs: [", b"\xff\xfe", b"", b"- 1\n", b"outs:\n- 1\n"])
def test_a_damaged_file_of_dvc_is_passed_over(project: Path, damage: bytes):
    (project / "aaa.dvc").write_bytes(damage)
    (project / "dvc.lock").write_bytes(damage)
    pin(project, ADS_MD5)

    version = dvc_version(write_ads(project / "data" / "demo.csv"))

    assert version == DvcVersion(project / "data.dvc", ADS_MD5, matches=True)


def test_only_the_default_demo_ads_have_the_pinned_name(project: Path):
    assert demo_file(ROWS, SEED) == project / "data" / "demo.csv"
    assert demo_file(ROWS, 1) == project / "data" / "demo-20000-1.csv"


def test_absent_demo_ads_are_generated(project: Path, generated: list[tuple[int, int]]):
    pin(project, ADS_MD5)

    path = ensure_demo_ads(demo_file(ROWS, SEED), ROWS, SEED)

    assert path.read_bytes() == ADS
    assert generated == [(ROWS, SEED)]


def test_present_demo_ads_are_not_generated_again(project: Path, generated: list[tuple[int, int]]):
    pin(project, ADS_MD5)
    write_ads(demo_file(ROWS, SEED))

    ensure_demo_ads(demo_file(ROWS, SEED), ROWS, SEED)

    assert generated == []


def test_generated_ads_other_than_the_pinned_ones_are_an_error_with_both_versions(
    project: Path, generated: list[tuple[int, int]]
):
    pin(project, OTHER_MD5)

    with pytest.raises(StateError, match=rf"{ADS_MD5}, pinned {OTHER_MD5}.*the generator"):
        ensure_demo_ads(demo_file(ROWS, SEED), ROWS, SEED)


def test_damaged_demo_ads_are_an_error_with_the_way_out(project: Path):
    pin(project, OTHER_MD5)
    write_ads(demo_file(ROWS, SEED))

    with pytest.raises(StateError, match="delete it, and the next run generates it anew"):
        ensure_demo_ads(demo_file(ROWS, SEED), ROWS, SEED)


def test_other_demo_ads_than_the_default_are_not_compared_with_the_pin(
    project: Path, generated: list[tuple[int, int]]
):
    pin(project, OTHER_MD5)

    assert ensure_demo_ads(demo_file(500, 1), 500, 1).name == "demo-500-1.csv"


def test_demo_ads_of_a_project_without_pin_are_taken_as_they_are(
    project: Path, generated: list[tuple[int, int]]
):
    assert ensure_demo_ads(demo_file(ROWS, SEED), ROWS, SEED).read_bytes() == ADS


def test_the_figures_that_git_holds_are_those_of_any_run_of_the_same_code(tmp_path: Path):
    figures = {"rmse": 0.2, "rows_test": 3, "threshold": 0.25, "coverage": None}
    run = {"git_commit": "c0ffee", "data_file": "a.csv", "champion_rmse": 0.3, "deployed": True}
    (tmp_path / "metrics.json").write_text(json.dumps(figures | run), encoding="utf-8")
    (tmp_path / "curves.csv").write_text("epoch,loss,seconds\n1,0.30,7.1\n", encoding="utf-8")
    (tmp_path / "calibration.csv").write_text("bin,rows\n1,2\n", encoding="utf-8")

    keep_metrics(tmp_path, tmp_path / "kept")

    kept = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "kept").iterdir()}
    assert json.loads(kept.pop("metrics.json")) == {"rmse": 0.2, "rows_test": 3, "threshold": 0.25}
    assert kept == {"curves.csv": "epoch,loss\n1,0.30\n", "calibration.csv": "bin,rows\n1,2\n"}


def test_code_under_git_has_its_commit(code: Path):
    assert git_commit(code) == git(code.parent, "rev-parse", "HEAD").strip()


def test_changed_code_is_marked_dirty(code: Path):
    code.write_text("x = 2\n", encoding="utf-8")

    commit = git_commit(code)

    assert commit is not None
    assert commit.endswith("-dirty")


def test_changes_anywhere_in_the_repository_count(code: Path):
    config = code.parent.parent / "config.yaml"
    config.write_text("a: 1\n", encoding="utf-8")
    git(code.parent, "add", str(config))

    assert str(git_commit(code)).endswith("-dirty")


def test_files_unknown_to_git_do_not_make_the_code_dirty(code: Path):
    (code.parent / "notes.txt").write_text("mine", encoding="utf-8")

    assert not str(git_commit(code)).endswith("-dirty")


def test_what_dvc_repro_wrote_does_not_make_the_code_dirty(code: Path):
    for name in ("dvc.lock", "metrics/metrics.json"):
        (code.parent.parent / name).write_text("{}\n", encoding="utf-8")

    assert not str(git_commit(code)).endswith("-dirty")


def test_code_outside_git_has_no_commit(tmp_path: Path):
    file = tmp_path / "code.py"
    file.write_text("x = 1\n", encoding="utf-8")

    assert git_commit(file) is None


def test_code_inside_somebody_elses_repository_has_no_commit(code: Path):
    installed = code.parent / "installed.py"
    installed.write_text("x = 1\n", encoding="utf-8")

    assert git_commit(installed) is None
