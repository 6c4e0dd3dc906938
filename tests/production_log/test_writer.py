from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from demand.production_log.entries import Columns
from demand.production_log.files import SegmentSink
from demand.production_log.writer import LogWriter
from demand.workspace.workspace import PROJECT_ROOT
from tests.full_disk import full_disk
from tests.production_log.answered import AD, FAR_AHEAD, LONG_AGO, SALT, add, files
from tests.served import wait_for


class Memory:
    """A sink that keeps entries, while the gate is open."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.gate = threading.Event()

    def salt(self) -> bytes:
        return SALT

    def write(self, entries: Columns) -> None:
        assert self.gate.wait(30)
        self.rows += entries["request_id"]

    def close(self) -> None:
        self.gate.set()


class Counts:
    """What a writer has counted."""

    def __init__(self) -> None:
        self.written = self.dropped = 0

    def __call__(self, written: int, dropped: int) -> None:
        self.written += written
        self.dropped += dropped


def test_all_is_written_in_its_order_when_the_writer_is_closed() -> None:
    sink, counts = Memory(), Counts()
    sink.gate.set()
    writer = LogWriter(sink, 1000, counts)
    for number in range(200):
        add(writer, AD, request_id=str(number))
    writer.close()
    assert sink.rows == [str(number) for number in range(200)]
    assert (counts.written, counts.dropped) == (200, 0)


def test_a_full_queue_drops_and_counts_but_nobody_waits() -> None:
    sink, counts = Memory(), Counts()
    writer = LogWriter(sink, 5, counts)
    for number in range(4):
        add(writer, AD, AD, request_id=str(number))  # of 2, 4 and 6 ads the third still fits
    assert counts.dropped == 2
    sink.gate.set()
    writer.close()
    assert sink.rows == ["0", "0", "1", "1", "2", "2"]
    assert (counts.written, counts.dropped) == (6, 2)


def test_there_is_room_again_once_the_queue_was_written() -> None:
    sink, counts = Memory(), Counts()
    sink.gate.set()
    writer = LogWriter(sink, 1, counts)
    for number in range(3):
        add(writer, AD, request_id=str(number))
        wait_for(lambda sent=number + 1: counts.written == sent)
    writer.close()
    assert counts.dropped == 0


def test_a_full_disk_loses_entries_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, counts = files(tmp_path), Counts()
    writer = LogWriter(SegmentSink(log), 1000, counts)
    add(writer, AD, request_id="before")
    wait_for(lambda: counts.written == 1)
    with full_disk(400), caplog.at_level(logging.WARNING):
        for number in range(2):
            add(writer, AD, request_id="lost")
            wait_for(lambda lost=number + 1: counts.dropped == lost)
    add(writer, AD, request_id="after")
    writer.close()
    assert log.read(LONG_AGO, FAR_AHEAD)["request_id"].to_pylist() == ["before", "after"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "not logged: OSError" in said[0]
    assert said[1] == "predictions are logged again; 2 were not"


def test_what_waits_is_written_when_the_process_ends(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from demand.production_log.files import SegmentSink\n"
        "from demand.production_log.writer import LogWriter\n"
        "from tests.production_log.answered import AD, add, files\n"
        f"add(LogWriter(SegmentSink(files(Path({str(tmp_path)!r}))), 10), AD)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT, timeout=60)
    assert files(tmp_path).read(LONG_AGO, FAR_AHEAD).num_rows == 1
