from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from demand.config import TrainingConfig
from demand.data import lineage
from demand.data.lineage import (
    REPORTS,
    code_fingerprint,
    model_fingerprint,
    model_settings,
    report_fingerprint,
)
from demand.workspace.workspace import PROJECT_ROOT

CONFIG = TrainingConfig()


def changed(section: str, **values: object) -> TrainingConfig:
    part = getattr(CONFIG, section).model_copy(update=values)
    return CONFIG.model_copy(update={section: part})


def test_the_same_data_code_and_config_have_the_same_fingerprint() -> None:
    assert model_fingerprint("abc", TrainingConfig()) == model_fingerprint("abc", CONFIG)


def test_other_data_have_another_fingerprint() -> None:
    assert model_fingerprint("abc", CONFIG) != model_fingerprint("abd", CONFIG)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG.model_copy(update={"seed": 1}),
        changed("validation", quarantine_share_max=0.0),
        changed("split", test_share=0.3),
        changed("features", buckets=64),
        changed("training", dropout=0.5),
    ],
)
def test_what_changes_a_model_changes_the_fingerprint(config: TrainingConfig) -> None:
    assert model_fingerprint("abc", config) != model_fingerprint("abc", CONFIG)


@pytest.mark.parametrize(
    "config",
    [
        changed("data", file="elsewhere.csv"),
        changed("checks", giskard_scan=False),
        changed("gate", rmse_threshold=0.1),
        changed("deploy", port=9000),
    ],
)
def test_what_changes_no_model_keeps_the_fingerprint(config: TrainingConfig) -> None:
    assert model_fingerprint("abc", config) == model_fingerprint("abc", CONFIG)


def test_the_settings_of_a_model_are_json() -> None:
    assert json.loads(json.dumps(model_settings(CONFIG))) == model_settings(CONFIG)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the package, which is fingerprinted instead of the real one."""
    copy = tmp_path / "demand"
    for name in ("demand", "orchestration", "steps", "pipelines"):
        shutil.copytree(
            lineage.PROJECT_ROOT / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(lineage.PROJECT_ROOT / ".dvcignore", tmp_path)
    monkeypatch.setattr(lineage, "PROJECT_ROOT", tmp_path)
    return copy


def test_the_place_of_the_code_does_not_matter(package: Path) -> None:
    copied = code_fingerprint()
    assert package != Path(lineage.__file__).parents[1]
    assert copied == code_fingerprint()
    assert len(copied) == 32


def reworded(path: Path) -> None:
    """Change a file without making it another kind of file."""
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        *("features/builder.py", "features/kernels.py", "model/training.py"),
        *("schema/population.json", "evaluation/behaviour.py", "evaluation/evaluate.py"),
        *("features/category_statistics.py", "registry/packaging.py"),
        *("../steps/model.py", "../pipelines/training.py"),
    ],
)
def test_other_code_has_another_fingerprint(package: Path, name: str) -> None:
    before = code_fingerprint(), report_fingerprint()
    reworded(package / name)
    assert code_fingerprint() != before[0]
    assert report_fingerprint() != before[1]


@pytest.mark.parametrize(
    "name",
    [
        *("errors.py", "page/texts.json", "page/style.css", "serving/api/page.html.j2"),
        *("demo/vocabulary/common.json", "demo/wording.py", "model/tuning/study.py"),
        *("../steps/serving.py", "../orchestration/runs.py"),
    ],
)
def test_code_beside_the_model_keeps_the_fingerprint(package: Path, name: str) -> None:
    before = code_fingerprint(), report_fingerprint()
    reworded(package / name)
    (package / "notes.txt").write_text("# other\n")
    assert (code_fingerprint(), report_fingerprint()) == before


@pytest.mark.parametrize(
    "name",
    [
        *("reports/templates/model_card.md.j2", "reports/pages.py"),
        *("reports/templates/base.html", "reports/templates/plots.mplstyle"),
    ],
)
def test_how_it_is_told_makes_reports_anew_and_no_model(package: Path, name: str) -> None:
    before = code_fingerprint(), report_fingerprint()
    reworded(package / name)
    assert code_fingerprint() == before[0]
    assert report_fingerprint() != before[1]


def test_what_is_named_beside_the_model_exists() -> None:
    lines = (PROJECT_ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    rooms = ("demand/", "orchestration/", "pipelines/", "steps/")
    named = [line.strip("!/*") for line in lines if line.strip("!/").startswith(rooms)]
    assert len(named) > 10
    assert [name for name in (*named, *REPORTS) if not (PROJECT_ROOT / name).exists()] == []


@pytest.mark.parametrize("name", REPORTS)
def test_how_it_is_told_is_beside_the_model(name: str) -> None:
    lines = (PROJECT_ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    assert f"/{name}" in lines


def test_a_file_that_moved_is_other_code(package: Path) -> None:
    before = code_fingerprint()
    (package / "schema/columns.py").rename(package / "schema/advertisements.py")
    assert code_fingerprint() != before
