import io
import logging
import os

from demand.serving.http.server import DroppingHandler


def record(line: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": line})


def test_lines_are_written_whole() -> None:
    stream = io.StringIO()
    for line in ("short", "ж" * 5_000):
        DroppingHandler(stream).handle(record(line))
    assert stream.getvalue() == f"short\n{'ж' * 5_000}\n"


def test_a_pipe_that_nobody_reads_stops_nobody() -> None:
    read, written = os.pipe()
    with os.fdopen(read, "rb") as reader:
        with os.fdopen(written, "w", encoding="utf-8") as stream:
            handler = DroppingHandler(stream)
            for _ in range(100):
                handler.handle(record("ж" * 5_000))
        found = reader.read()
    assert found.startswith(("ж" * 5_000).encode() + b"\n")
    assert 2**12 < len(found) < 2**20
