from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from demand import lineage
from demand.config import TrainingConfig
from demand.lineage import code_fingerprint, model_fingerprint, model_settings

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
    for name in ("demand", "steps", "pipelines"):
        shutil.copytree(
            lineage.PACKAGE.parent / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    monkeypatch.setattr(lineage, "PACKAGE", copy)
    return copy


def test_the_place_of_the_code_does_not_matter(package: Path) -> None:
    copied = code_fingerprint()
    assert package != Path(lineage.__file__).parent
    assert copied == code_fingerprint()
    assert len(copied) == 32


@pytest.mark.parametrize("name", ["features/builder.py", "reference.json", "../steps/train.py"])
def test_other_code_has_another_fingerprint(package: Path, name: str) -> None:
    before = code_fingerprint()
    path = package / name
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert code_fingerprint() != before


@pytest.mark.parametrize("name", ["cli.py", "dashboard/run.py", "notes.txt"])
def test_code_beside_the_model_keeps_the_fingerprint(package: Path, name: str) -> None:
    before = code_fingerprint()
    (package / name).write_text("# other\n")
    assert code_fingerprint() == before


def test_a_file_that_moved_is_other_code(package: Path) -> None:
    before = code_fingerprint()
    (package / "ads.py").rename(package / "advertisements.py")
    assert code_fingerprint() != before
