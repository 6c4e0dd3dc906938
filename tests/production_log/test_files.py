from __future__ import annotations

import datetime
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demand.errors import StateError
from demand.production_log.entries import entries_of
from demand.production_log.files import Files, SegmentSink, read_salt
from demand.workspace.workspace import PROJECT_ROOT, exclusive
from tests.production_log.answered import (
    AD,
    FAR_AHEAD,
    FULL,
    LONG_AGO,
    SALT,
    answered,
    files,
)

NOW = datetime.datetime.now(datetime.UTC)


class Sink(SegmentSink):
    """One that leaves tidying to the test."""

    def _start_tidying(self) -> None:
        pass


def logged(log: Files, *ids: str, **more: Any) -> SegmentSink:
    """Write a segment of an entry an id, which is still open."""
    sink = Sink(log)
    for name in ids:
        sink.write(entries_of([answered(FULL, request_id=name, **more)], SALT))
    return sink


def ids(log: Files) -> list[str]:
    return sorted(log.read(LONG_AGO, FAR_AHEAD)["request_id"].to_pylist())


def names(log: Files, suffix: str) -> list[str]:
    return sorted(path.name for path in log.folder.glob(f"*{suffix}"))


def test_what_is_written_is_read_before_and_after_tidying(tmp_path: Path) -> None:
    log = files(tmp_path)
    logged(log, "a", "b").close()
    logged(log, "c").close()
    before = log.read(LONG_AGO, FAR_AHEAD)
    log.tidy(NOW)
    assert names(log, ".jsonl") == []
    assert len(names(log, ".parquet")) == 1
    after = log.read(LONG_AGO, FAR_AHEAD)
    assert after.sort_by("request_id") == before.sort_by("request_id")
    assert after["request_id"].to_pylist() == ["a", "b", "c"]


def test_only_entries_of_the_span_are_read(tmp_path: Path) -> None:
    log = files(tmp_path)
    moments = [NOW + datetime.timedelta(seconds=seconds) for seconds in (0, 1, 2)]
    for name, moment in zip("abc", moments, strict=True):
        logged(log, name, at=moment.timestamp()).close()
    for _ in range(2):
        found = log.read(moments[0], moments[2])["request_id"].to_pylist()
        assert found == ["a", "b"]
        log.tidy(NOW)


def test_a_segment_that_is_written_to_is_left_alone(tmp_path: Path) -> None:
    log = files(tmp_path)
    sink = logged(log, "a")
    log.tidy(NOW)
    assert len(names(log, ".jsonl")) == 1
    sink.write(entries_of([answered(AD, request_id="b")], SALT))
    sink.close()
    log.tidy(NOW)
    assert ids(log) == ["a", "b"]


def test_a_line_that_a_crash_cut_short_is_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = files(tmp_path)
    logged(log, "a", "b").close()
    (segment,) = log.folder.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-20])
    assert ids(log) == ["a"]
    assert caplog.records[-1].getMessage().endswith("skipped: 1")
    log.tidy(NOW)
    assert ids(log) == ["a"]


def test_entries_count_once_after_tidying_was_killed_before_it_deleted(tmp_path: Path) -> None:
    log = files(tmp_path)
    logged(log, "a").close()
    (segment,) = log.folder.glob("*.jsonl")
    content = segment.read_bytes()
    log.tidy(NOW)
    segment.write_bytes(content)
    (log.folder / ".2026-01-01.0.parquet.0.part").write_bytes(b"half")
    assert ids(log) == ["a"]
    log.tidy(NOW)
    assert not segment.exists()
    assert list(log.folder.glob(".*.part")) == []
    assert ids(log) == ["a"]


def test_a_killed_writer_loses_nothing_that_was_written(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from tests.production_log.test_files import files, logged\n"
        f"sink = logged(files(Path({str(tmp_path)!r})), 'a', 'b')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=PROJECT_ROOT, timeout=60)
    log = files(tmp_path)
    log.tidy(NOW)
    assert names(log, ".jsonl") == []
    assert ids(log) == ["a", "b"]


def test_two_that_tidy_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    log = files(tmp_path)
    for name in "abcdefgh":
        logged(log, name).close()
    running = [subprocess.Popen(log.tidy_command(), cwd=PROJECT_ROOT) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert ids(log) == list("abcdefgh")


def test_who_comes_second_does_not_tidy(tmp_path: Path) -> None:
    log = files(tmp_path)
    logged(log, "a").close()
    with exclusive(tmp_path / "locks" / "log.lock", "testing"), pytest.raises(StateError):
        log.tidy(NOW)
    assert len(names(log, ".jsonl")) == 1


def test_what_is_older_than_the_retention_is_deleted(tmp_path: Path) -> None:
    log = files(tmp_path, retention_days=10)
    logged(log, "a").close()
    log.tidy(NOW + datetime.timedelta(days=10))
    assert ids(log) == ["a"]
    logged(log, "b").close()
    log.tidy(NOW + datetime.timedelta(days=11))
    assert ids(log) == []


def test_the_oldest_go_where_there_is_too_much(tmp_path: Path) -> None:
    log = files(tmp_path)
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        logged(log, day).close()
        (segment,) = (path for path in log.folder.glob("*.jsonl") if path.stem > "2026-02")
        segment.rename(log.folder / f"{day}.0.jsonl")
    log.tidy(datetime.datetime(2026, 1, 4, tzinfo=datetime.UTC))
    size = sum(path.stat().st_size for path in log.folder.glob("*.parquet"))
    bounded = files(tmp_path, max_gb=size / 1e9)
    bounded.tidy(datetime.datetime(2026, 1, 4, tzinfo=datetime.UTC))
    assert ids(bounded) == ["2026-01-02", "2026-01-03"]


def test_nothing_is_written_beyond_the_bound(tmp_path: Path) -> None:
    log = files(tmp_path)
    kept = logged(log, "a")
    full = files(tmp_path, max_gb=1e-9)
    with pytest.raises(OSError, match="max_gb"):
        logged(full, "b")
    kept.close()
    assert ids(log) == ["a"]


def test_a_segment_has_a_bound_and_its_closing_starts_tidying(tmp_path: Path) -> None:
    log = files(tmp_path, segment_mb=1e-6)
    sink = SegmentSink(log)
    for name in "abc":
        sink.write(entries_of([answered(AD, request_id=name)], SALT))
    sink.close()
    assert ids(log) == ["a", "b", "c"]


def test_the_salt_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    salt = read_salt(tmp_path / "log")
    assert len(salt) == 32
    assert read_salt(tmp_path / "log") == salt
    (file,) = (tmp_path / "log").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"short")
    with pytest.raises(StateError, match="restore it from a backup"):
        read_salt(tmp_path / "log")
