"""Where state lives, and how it is written so that a crash loses nothing.

All state is below one folder, ``DEMAND_HOME`` (default: ``.demand`` in the project).
Reports are below ``DEMAND_REPORTS`` (default: ``reports`` in the project), because
people and DVC read them there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import secrets
import shlex
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from demand.errors import StateError

PROJECT_ROOT = Path(__file__).resolve().parents[2]

# MLflow would take them for parts of a URL, and go to another folder.
_PARTS_OF_URLS = re.compile(r"\?|%[0-9A-Fa-f]{2}")
# Of the experiments that we make; one that a user made may lie anywhere.
_ARTIFACTS = "SELECT artifact_location FROM experiments WHERE artifact_location LIKE ?"


@dataclass
class Workspace:
    """The folders of one installation; nothing is created before it is needed."""

    root: Path

    def __post_init__(self) -> None:
        # SQLite files: MLflow's tracking store and registry; all searches of Optuna's.
        self.mlflow_database, self.studies = self.root / "mlflow.db", self.root / "tuning.db"
        self.mlflow_artifacts = self.root / "artifacts"
        self.serving = self.root / "serving"  # served models and the record of the active server
        self.batch = self.root / "batch"  # answers of batch inference that are not yet whole
        self.runs = self.root / "runs"  # temporary files of the pipelines that run now
        self.production_log = self.root / "production_log"  # predictions, and their outcomes
        self.decisions = self.root / "decisions.jsonl"  # of monitoring, the newest last
        self.logs = self.root / "logs"  # of the processes that outlive a command
        self.locks = self.root / "locks"  # freed by the operating system when their owner dies


def current_workspace() -> Workspace:
    """Return the installation that ``DEMAND_HOME`` names, read at each call.

    Raises
    ------
    StateError
        It is a file, or below one; names the file. Or it has a name that MLflow reads as
        another one, or was moved or copied to where it is: MLflow keeps absolute paths, so
        that it would read and write in the folder from before.
    """
    root = _named_by("DEMAND_HOME", ".demand")
    there = next(path for path in (root, *root.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise StateError(
            f"state cannot be kept in {root}: {there} is a file; set DEMAND_HOME to a folder"
        )
    misread = _PARTS_OF_URLS.search(str(root))
    if misread is not None:
        raise StateError(
            f"state cannot be kept in {root}: MLflow reads {misread.group()!r} as part of a URL "
            "and would use another folder; set DEMAND_HOME to a folder without it in its path"
        )
    workspace = Workspace(root)
    _require_unmoved(workspace)
    return workspace


def _require_unmoved(workspace: Workspace) -> None:
    """Demand that MLflow's paths, which only SQL could change, lead to this very folder."""
    for before in _artifact_homes(workspace):
        there = os.path.exists(before)  # False, too, where it may not be asked.
        if there and before.samefile(workspace.root):
            continue
        link = shlex.join(["ln", "-s", str(workspace.root), str(before)])
        is_what, way_out = "was made", f"move it back, make that path lead here (`{link}`)"
        if os.path.exists(Workspace(before).mlflow_database):
            is_what, way_out = "is a copy of that", f"set DEMAND_HOME to {before}"
        elif there:
            way_out = "move its files back beside those that are there now"
        raise StateError(
            f"the state in {workspace.root} {is_what} in {before}, where MLflow would still read "
            f"and write: {way_out}, or set DEMAND_HOME to a folder that is empty, for an "
            "installation of its own"
        )


def _artifact_homes(workspace: Workspace) -> set[Path]:
    """Return the roots of the installations in which MLflow's database has artifacts of ours."""
    # Not read-only: what a killed writer left half-done is rolled back first. Nothing is created.
    uri = f"{workspace.mlflow_database.as_uri()}?mode=rw"
    kind = f"file:%/{workspace.mlflow_artifacts.name}"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as store:
            found = store.execute(_ARTIFACTS, (kind,)).fetchall()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise StateError(
                f"another process is using MLflow's database {workspace.mlflow_database}: try again"
            ) from error
        # There is none yet; or MLflow cannot read it either, and says so to who tries.
        return set()
    return {Path(unquote(urlsplit(location).path)).parent for (location,) in found}


def _named_by(variable: str, default: str) -> Path:
    """Return the folder that a variable of the environment names, or that of the project."""
    value = os.environ.get(variable)
    return Path(value).expanduser().resolve() if value else PROJECT_ROOT / default


def reports_folder(pipeline: str) -> Path:
    """Return the folder of one pipeline's reports, created if absent."""
    folder = _named_by("DEMAND_REPORTS", "reports") / pipeline
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot create the reports folder {folder}: {error.strerror}") from error
    return folder


@contextlib.contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path`` that replaces it when the block succeeds.

    After an exception, Ctrl-C or ``kill -9`` the old file is still whole. A link is replaced
    itself: what it leads to, such as a version in DVC's cache, stays as it is. The mode is
    that of the file from before; of a new file, and in the place of a link, the umask decides.

    Raises
    ------
    StateError
        The disk is full, the folder cannot be written, or the path is that of a folder or a
        device; names the file.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # Replacing a device such as /dev/null would break it for everybody.
        if path.exists() and not path.is_file():
            raise StateError(f"cannot write {path}: it is no regular file")
        temporary.touch(mode=0o666, exist_ok=False)
        mode = _mode(path, temporary)
        temporary.chmod(mode | stat.S_IWUSR)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        untouched = "; the file from before is untouched" if os.path.isfile(path) else ""
        raise StateError(f"cannot write {path}: {error.strerror or error}{untouched}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def write_aside_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` that takes its place when the block succeeds.

    The two change places at once, where the system knows how. Where it does not, ``kill -9``
    may leave the folder from before under the name ``.NAME.before``; the next call puts it
    back. Links and modes are as with :func:`write_aside`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    before = path.with_name(f".{path.name}.before")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if before.exists() and not os.path.lexists(path):
            before.rename(path)
        temporary.mkdir()
        mode = _mode(path, temporary)
        yield temporary
        temporary.chmod(mode)
        if not os.path.lexists(path):
            temporary.rename(path)
        elif not _exchanged(temporary, path):
            _remove(before)
            path.rename(before)
            temporary.rename(path)
    except shutil.Error as error:
        # Copying a tree goes on after a failure; the first of all says enough.
        raise StateError(f"cannot write {path}: {error.args[0][0][2]}") from error
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        _remove(temporary)
        if os.path.lexists(path):
            _remove(before)


def _mode(path: Path, new: Path) -> int:
    """Return the mode of what is to be at ``path``; ``new`` was made as the umask wants it."""
    kept = path.exists() and not path.is_symlink()
    return stat.S_IMODE((path if kept else new).stat().st_mode)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two paths change places at once; say whether this system and file system can."""
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _remove(folder: Path) -> None:
    """Remove a folder, or a link to one, as far as possible."""
    if os.path.islink(folder):
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable UTF-8 JSON, atomically; NaN is refused."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    with write_aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON, or raise :class:`StateError` naming the file and the place."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StateError(f"{path} is not valid JSON: {error}") from error


@contextlib.contextmanager
def exclusive(lock: Path, purpose: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file for the block; the lock dies with its process, however that ends.

    The file is created if absent and never removed. ``purpose`` says what the holder does, to
    the one who comes second; with ``wait`` that one waits instead of failing.

    Raises
    ------
    StateError
        Another process holds the lock (with ``wait=False``); names its process id.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("a+", encoding="utf-8")
    except OSError as error:
        raise StateError(f"cannot open the lock {lock}: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise StateError(
                f"{holder} is using {lock.parent.parent}: wait until it has finished, "
                "or set DEMAND_HOME (and DEMAND_REPORTS) to another folder"
            ) from None
        # The name is a courtesy to the one who comes second; a full disk must not keep
        # anybody from working alone.
        with contextlib.suppress(OSError):
            os.ftruncate(handle.fileno(), 0)
            os.write(handle.fileno(), f"process {os.getpid()} ({purpose})\n".encode())
        try:
            yield
        finally:
            os.ftruncate(handle.fileno(), 0)
            fcntl.flock(handle, fcntl.LOCK_UN)


_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_SQLITE_REFUSED = ("database or disk is full", "disk i/o error", "readonly database")


def disk_failure(error: BaseException) -> str | None:
    """Say in one line what could not be written, or None where that is not the cause.

    Looks through the whole chain of causes, since ZenML, MLflow, SQLAlchemy, pyarrow and
    safetensors each wrap the operating system's error in one of their own.
    """
    causes = [error]
    while (above := causes[-1].__cause__ or causes[-1].__context__) and above not in causes:
        causes.append(above)
    for cause in reversed(causes):  # what lies at the root names the file
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
