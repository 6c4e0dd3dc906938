from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from demand.errors import AdsFileError, ConfigError, ModelError, StateError
from demand.state import PROJECT_ROOT
from doors import batch
from doors.batch import answer, show, version_asked
from tests.doors.heard import said

ANSWERED: dict[str, Any] = {
    "rows": 1500,
    "answered": 1498,
    "data_md5": "x",
    "warnings": ["ignored columns: 'a[b]'", "2 ads without title"],
}


def asked(folder: Path, **others: Any) -> argparse.Namespace:
    data = folder / "ads.csv"
    data.write_text("item_id,title,category_name\n1,Диван,Мебель\n", encoding="utf-8")
    options: dict[str, Any] = {
        "data": data,
        "output": folder / "out.csv",
        "model": None,
        "config": PROJECT_ROOT / "configs" / "training.yaml",
    }
    return argparse.Namespace(**options | others)


class Registered:
    """A registry without any version."""

    def champion(self) -> None:
        return None

    def version(self, version: str) -> None:
        raise ModelError(f"there is no version {version} of the model; there is: none")


@pytest.fixture
def no_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demand.serving.registry.Registry", Registered)


@pytest.fixture
def no_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object) -> None:
        raise AssertionError("the pipeline was started")

    monkeypatch.setattr(batch, "run_pipeline", started)


def test_a_run_shows_warnings_and_what_was_answered(out: Console) -> None:
    show(out, ANSWERED, "3", Path("/a/out.csv"), 1.25)
    assert said(out).splitlines() == [
        "warning: ignored columns: 'a[b]'",
        "warning: 2 ads without title",
        "version 3 answered 1,498 of 1,500 ads in 1.2 s",
        "answers: /a/out.csv",
    ]


@pytest.mark.usefixtures("no_versions")
@pytest.mark.parametrize(
    ("version", "message"), [(None, "no champion yet: run"), ("7", "no version 7 of the model")]
)
def test_a_version_that_is_not_there_is_told(version: str | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        version_asked(version)


@pytest.mark.usefixtures("no_pipeline")
def test_what_is_bound_to_fail_fails_before_the_pipeline_starts(
    tmp_path: Path, out: Console
) -> None:
    with pytest.raises(StateError, match="it is a folder"):
        answer(asked(tmp_path, output=tmp_path), out)
    with pytest.raises(StateError, match="the file of ads itself"):
        answer(asked(tmp_path, output=tmp_path / "ads.csv"), out)
    with pytest.raises(AdsFileError, match="there is no file"):
        answer(asked(tmp_path, data=tmp_path / "nowhere.csv"), out)
    with pytest.raises(ConfigError):
        answer(asked(tmp_path, config=tmp_path / "nowhere.yaml"), out)


@pytest.mark.usefixtures("no_pipeline", "no_versions")
def test_without_a_champion_no_pipeline_starts(tmp_path: Path, out: Console) -> None:
    with pytest.raises(ModelError, match="no champion yet"):
        answer(asked(tmp_path), out)
    assert not (tmp_path / "out.csv").exists()


def test_the_pipeline_is_given_what_was_asked_for(
    tmp_path: Path, out: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    def run_pipeline(*values: object) -> dict[str, Any]:
        given.extend(values)
        return ANSWERED

    monkeypatch.setattr(batch, "run_pipeline", run_pipeline)
    monkeypatch.setattr(batch, "version_asked", lambda version: version or "1")
    assert answer(asked(tmp_path, model="2"), out) == 0
    assert given == [tmp_path / "ads.csv", tmp_path / "out.csv", "2", 8.0]
    assert said(out).startswith(f"version 2 answers {tmp_path}")
