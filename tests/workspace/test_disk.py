"""A full disk is recognised in the words of each library."""

from __future__ import annotations

import errno
import sqlite3

import pytest

from demand.workspace.workspace import disk_failure


def test_the_file_is_named_where_the_system_names_it() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/from", None, "/to")
    assert disk_failure(error) == "cannot write /to: No space left on device"


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database or disk is full"),
        sqlite3.OperationalError("disk I/O error"),
        sqlite3.OperationalError("attempt to write a readonly database"),
        OSError(errno.EFBIG, "File too large"),
        RuntimeError("Error while serializing: No space left on device (os error 28)"),
    ],
)
def test_the_words_of_other_libraries_are_understood(error: Exception) -> None:
    assert (disk_failure(error) or "").startswith("cannot write a ")


def test_a_cause_is_found_below_other_errors() -> None:
    error = RuntimeError("step failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/here")
    assert disk_failure(error) == "cannot write /here: No space left on device"


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/nowhere"),
        sqlite3.OperationalError("no such table: runs"),
        ValueError("full"),
    ],
)
def test_other_errors_are_left_alone(error: Exception) -> None:
    assert disk_failure(error) is None
