"""Entries in files of one folder: segments that workers append to, made into Parquet by day.

A segment is JSON lines, each some entries as columns. Its writer holds a lock on it, which dies
with the process, so that a segment without one is closed, whatever became of its writer. Closed
segments become Parquet files of their day; each names the segments that it holds, so that none
counts twice where a process was killed between writing the one and deleting the others.

``python -m demand.production_log.files FOLDER LOCK SETTINGS`` is :meth:`Files.tidy`, as a worker
starts it: what that needs, a worker should not have in its memory.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import itertools
import json
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from demand.errors import StateError
from demand.production_log.config import LogSettings
from demand.production_log.entries import Columns, arrow_schema
from demand.workspace.workspace import PROJECT_ROOT, exclusive, write_aside

if TYPE_CHECKING:
    import pyarrow as pa

_SEGMENT, _PARQUET, _HELD = ".jsonl", ".parquet", b"segments"
_SALT_FILE, _SALT_BYTES = "seller.salt", 32
# Tidying leaves so much of the bound free for what comes until it is done again.
_KEPT_SHARE = 0.8
_NICENESS = 10
_ORDER = [("at", "ascending"), ("request_id", "ascending"), ("row", "ascending")]
_log = logging.getLogger("demand.production_log")


class Files:
    """The log below a folder, of which :class:`demand.workspace.workspace.Workspace` has the lock.

    It may be used by many processes at once.
    """

    def __init__(self, folder: Path, lock: Path, settings: LogSettings) -> None:
        self.folder, self._lock, self._settings = folder, lock, settings
        self._max_bytes = int(settings.max_gb * 1e9)

    @property
    def segment_bytes(self) -> int:
        """Size at which a segment is closed."""
        return int(self._settings.segment_mb * 2**20)

    def is_full(self) -> bool:
        """Say whether the folder has reached the bound on its size."""
        return sum(map(_size, self._paths(""))) >= self._max_bytes

    def tidy_command(self) -> list[str]:
        """Return the command that is :meth:`tidy` in a process of its own."""
        given = (str(self.folder), str(self._lock), self._settings.model_dump_json())
        return [sys.executable, "-m", "demand.production_log.files", *given]

    def read(self, start: datetime.datetime, end: datetime.datetime) -> pa.Table:
        """Return all entries with start <= at < end, by :func:`arrow_schema`.

        Lines that a crash cut short are skipped, and their number is logged.
        """
        import pyarrow as pa
        import pyarrow.dataset as ds

        # A segment has what was answered when its day was just over, too.
        first = (start - datetime.timedelta(days=1)).date().isoformat()
        last = end.date().isoformat()
        asked = (ds.field("at") >= start) & (ds.field("at") < end)
        with exclusive(self._lock, "reading predictions", wait=True):
            parquet = [path for path in self._paths(_PARQUET) if first <= _day(path) <= last]
            held = {name for path in parquet for name in _held_by(path)}
            tables = [arrow_schema().empty_table()]
            if parquet:
                tables.append(ds.dataset(parquet, arrow_schema()).to_table(filter=asked))
            for path in self._paths(_SEGMENT):
                if first <= _day(path) <= last and path.name not in held:
                    tables += [part.filter(asked) for part in _parts(path)]
        return pa.concat_tables(tables).combine_chunks().sort_by(_ORDER)

    def tidy(self, now: datetime.datetime) -> None:
        """Make closed segments into Parquet, and delete what is too old or too much.

        StateError: another process is at it, or the disk is full.
        """
        with exclusive(self._lock, "tidying predictions"):
            # Of one that was killed.
            for path in self.folder.glob(f".*{_PARQUET}.*.part"):
                path.unlink()
            held = {name for path in self._paths(_PARQUET) for name in _held_by(path)}
            for path in self._paths(_SEGMENT):
                if path.name in held:
                    path.unlink()
            oldest = now - datetime.timedelta(days=self._settings.retention_days)
            self._delete_before(oldest.date().isoformat())
            if find_spec("pyarrow") is not None:  # as it is not in the image
                closed = filter(_is_closed, self._paths(_SEGMENT))
                for day, paths in itertools.groupby(closed, _day):
                    self._compact(day, list(paths))
            self._make_room()

    def _compact(self, day: str, segments: list[Path]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        held = json.dumps([path.name for path in segments])
        schema = arrow_schema().with_metadata({_HELD: held})
        path = self.folder / f"{day}.{secrets.token_hex(8)}{_PARQUET}"
        with write_aside(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for segment in segments:
                # One table a segment: of the lines each would become a row group.
                if parts := list(_parts(segment)):
                    writer.write_table(pa.concat_tables(parts).combine_chunks())
        for segment in segments:
            segment.unlink()

    def _delete_before(self, day: str) -> None:
        for path in self._paths(""):
            if _day(path) < day and _is_closed(path):
                path.unlink()

    def _make_room(self) -> None:
        paths = self._paths("")
        size = sum(map(_size, paths))
        for path in paths:
            if size <= self._max_bytes * _KEPT_SHARE:
                break
            if _is_closed(path):
                size -= _size(path)
                path.unlink()

    def _paths(self, suffix: str) -> list[Path]:
        """Return segments, Parquet files or both, the oldest days first."""
        suffixes = (suffix,) if suffix else (_PARQUET, _SEGMENT)
        found = self.folder.glob("[0-9]*") if self.folder.is_dir() else ()
        return sorted(path for path in found if path.suffix in suffixes)


class SegmentSink:
    """Appends entries to a segment of its own; not for several threads."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._day, self._descriptor, self._size = "", -1, 0
        self._salt = b""
        self._tidying: subprocess.Popen[bytes] | None = None

    def salt(self) -> bytes:
        """Return what sellers are hashed with, made once for all processes of the folder."""
        if not self._salt:
            self._salt = read_salt(self._files.folder)
        return self._salt

    def write(self, entries: Columns) -> None:
        """Append entries; OSError: there is no room, and what was there is whole."""
        text = json.dumps(entries, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        line = f"{text}\n".encode()
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        if self._descriptor < 0 or day != self._day or self._size >= self._files.segment_bytes:
            self._begin(day)
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):  # as where the disk is nearly full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)

    def close(self) -> None:
        """Close the segment."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begin(self, day: str) -> None:
        """Begin another segment, and let what is closed by now be tidied."""
        self.close()
        folder = self._files.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        full = self._files.is_full()
        self._start_tidying()
        if full:
            raise OSError(errno.EDQUOT, f"{folder} has reached log.max_gb of the config")
        path = folder / f"{day}.{secrets.token_hex(8)}{_SEGMENT}"
        new = path.with_name(f".{path.name}.part")
        descriptor = os.open(new, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Under its name it is never without the lock.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            new.rename(path)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._day, self._size = descriptor, day, 0

    def _start_tidying(self) -> None:
        if self._tidying is not None and self._tidying.poll() is None:
            return
        environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "PYTHONSAFEPATH": "1"}
        self._tidying = subprocess.Popen(
            self._files.tidy_command(),
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the server
        )


def read_salt(folder: Path) -> bytes:
    """Return the salt of a folder, made if it is not there; StateError: it is damaged."""
    path = folder / _SALT_FILE
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = folder / f".{_SALT_FILE}.{secrets.token_hex(8)}.part"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_SALT_BYTES))
        # Of two that come at once, the first one's counts.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(new)
        new.unlink()
    salt = path.read_bytes()
    if len(salt) != _SALT_BYTES:
        raise StateError(
            f"{path} is damaged: restore it from a backup, or delete it, so that sellers get new "
            "hashes"
        )
    return salt


def _parts(segment: Path) -> Iterator[pa.Table]:
    """Yield the entries of each line that is whole."""
    import pyarrow as pa

    cut = 0
    with segment.open("rb") as lines:
        for line in lines:
            try:
                yield pa.Table.from_pydict(json.loads(line), arrow_schema())
            except (ValueError, TypeError, KeyError):  # Arrow's own are of these kinds
                cut += 1
    if cut:
        _log.warning("%s: lines cut short by a crash and skipped: %d", segment, cut)


def _held_by(path: Path) -> list[str]:
    """Return the names of the segments that a Parquet file holds."""
    if find_spec("pyarrow") is None:
        return []
    import pyarrow.parquet as pq

    held: list[str] = json.loads(pq.read_schema(path).metadata[_HELD])
    return held


def _is_closed(path: Path) -> bool:
    """Say whether nobody writes to a file any more."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _day(path: Path) -> str:
    return path.name.partition(".")[0]


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def main(arguments: list[str]) -> None:
    """Tidy the folder that is named, with a low priority."""
    folder, lock, settings = arguments
    os.nice(_NICENESS)
    files = Files(Path(folder), Path(lock), LogSettings.model_validate_json(settings))
    # Another one is at it; or the disk is full, which the writer says itself.
    with contextlib.suppress(StateError):
        files.tidy(datetime.datetime.now(datetime.UTC))


if __name__ == "__main__":
    main(sys.argv[1:])
