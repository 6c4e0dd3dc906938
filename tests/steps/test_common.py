from __future__ import annotations

from pathlib import Path

import pytest

from demand.lineage import code_fingerprint
from steps import common
from steps.common import CACHED, SECONDS, publish, timed


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Take what a step would log, since no step runs here."""
    kept: list[dict[str, float]] = []
    monkeypatch.setattr(common, "log_metadata", kept.append)
    return kept


def test_a_steps_time_is_logged(logged: list[dict[str, float]]) -> None:
    with timed():
        assert logged == []
    assert len(logged) == 1
    assert 0.0 <= logged[0][SECONDS] < 5.0


def test_the_time_of_a_step_that_failed_is_logged(logged: list[dict[str, float]]) -> None:
    with pytest.raises(RuntimeError), timed():
        raise RuntimeError
    assert len(logged) == 1


def test_the_cache_follows_the_code_of_the_core() -> None:
    assert CACHED.cache_func is not None
    assert code_fingerprint.__name__ in str(CACHED.cache_func)


def test_reports_are_published_with_their_folders(tmp_path: Path) -> None:
    reports, folder = tmp_path / "made", tmp_path / "read"
    (reports / "plots").mkdir(parents=True)
    (reports / "a.html").write_text("new")
    (reports / "plots" / "b.png").write_bytes(b"png")
    folder.mkdir()
    (folder / "a.html").write_text("old")
    (folder / "other.json").write_text("{}")
    publish(reports, folder)
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert files == {"a.html": b"new", "plots/b.png": b"png", "other.json": b"{}"}


def test_no_reports_are_published_of_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "absent", tmp_path / "read")
    assert not (tmp_path / "read").exists()
