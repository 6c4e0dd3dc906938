"""Recognising a disk that takes no more, in whatever words a library says so."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator

_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_SQLITE_REFUSED = ("database or disk is full", "disk i/o error", "readonly database")


def disk_failure(error: BaseException) -> str | None:
    """Say in one line what could not be written, or None where that is not the cause.

    Looks through the whole chain of causes, since ZenML, MLflow, SQLAlchemy, pyarrow and
    safetensors each wrap the operating system's error in one of their own.
    """
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _REFUSED:
            name = cause.filename2 or cause.filename
            where = f"cannot write {os.fsdecode(name)}" if name else "cannot write a file"
            return f"{where}: {os.strerror(cause.errno)}"
        told = str(cause).lower()
        if isinstance(cause, sqlite3.Error) and any(text in told for text in _SQLITE_REFUSED):
            return f"cannot write a database: {cause}"
        for number in _REFUSED:
            if os.strerror(number).lower() in told:
                return f"cannot write a file: {os.strerror(number)}"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield what lies at the root first: it names the file."""
    causes = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    yield from reversed(causes)
