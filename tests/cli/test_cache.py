from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.main import main
from orchestration.disk import CachedRun

Captured = pytest.CaptureFixture[str]
RUNS = [
    CachedRun("tuning-1", "2026-11-01T08:00:00Z", False, 1_500_000, dict),
    CachedRun("training-3", "2026-11-03T08:00:00Z", True, 20_000_000, dict),
    CachedRun("training-2", "2026-11-02T08:00:00Z", True, 700_000_000, dict),
]


@pytest.fixture(autouse=True)
def nobody_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let three runs have been there; return how many GB of each clearing were to stay."""
    (tmp_path / "zenml").mkdir()
    (tmp_path / "zenml" / "config.yaml").touch()
    kept: list[float] = []

    def trim_cache(gigabytes: float) -> int:
        kept.append(gigabytes)
        return 2_340_000_000

    disk = SimpleNamespace(cached_runs=lambda: RUNS, trim_cache=trim_cache)
    monkeypatch.setitem(sys.modules, "orchestration.disk", disk)
    return kept


def told(capfd: Captured) -> dict[str, Any]:
    return json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("options", [[], ["--clear"], ["--clear", "--keep-gb", "5"]])
def test_where_nothing_was_run_there_is_nothing_and_none_is_made(
    options: list[str], tmp_path: Path, capfd: Captured
) -> None:
    assert main(["cache", *options, "--json"]) == 0
    assert told(capfd) == {"runs": [], "size_bytes": 0, "cache_gb": 20.0, "freed_bytes": 0}
    assert not (tmp_path / "zenml").exists()


def test_runs_are_listed_with_their_size_and_the_bound(
    asked: list[float], tmp_path: Path, capfd: Captured
) -> None:
    (tmp_path / "my.yaml").write_text("data:\n  cache_gb: 0.5\n")
    assert main(["cache", "--config", str(tmp_path / "my.yaml")]) == 0
    going, newest, oldest, total = capfd.readouterr().out.splitlines()
    assert going.split() == ["tuning-1", "2026-11-01T08:00:00Z", "1.5", "MB", "goes", "on"]
    assert newest.split() == ["training-3", "2026-11-03T08:00:00Z", "20.0", "MB", "newest"]
    assert oldest.split() == ["training-2", "2026-11-02T08:00:00Z", "700.0", "MB"]
    assert total == "0.72 GB of outputs of runs; after a training at most 0.5 GB stay"
    assert asked == []


@pytest.mark.parametrize(
    ("options", "kept"),
    [(["--clear"], 0), (["--clear", "--keep-gb", "5"], 5), (["--keep-gb", "0"], 0)],
)
def test_clearing_says_what_it_freed(
    options: list[str], kept: float, asked: list[float], capfd: Captured
) -> None:
    assert main(["cache", *options]) == 0
    assert "freed 2.34 GB" in capfd.readouterr().out.splitlines()
    assert asked == [kept]


def test_programs_are_told_in_bytes(asked: list[float], capfd: Captured) -> None:
    assert main(["cache", "--clear", "--json"]) == 0
    found = told(capfd)
    assert found["runs"][1] == {
        "name": "training-3",
        "started": "2026-11-03T08:00:00Z",
        "ended": True,
        "size_bytes": 20_000_000,
    }
    assert (found["size_bytes"], found["freed_bytes"]) == (721_500_000, 2_340_000_000)
