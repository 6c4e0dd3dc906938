"""Where state lives, and how it is written so that a crash loses nothing.

All state is below one folder, ``DEMAND_HOME`` (default: ``.demand`` in the project).
Reports are below ``DEMAND_REPORTS`` (default: ``reports`` in the project), because
people and DVC read them there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demand.errors import StateError

PROJECT_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Home:
    """The folders of one installation; nothing is created before it is needed."""

    root: Path

    @property
    def mlflow_database(self) -> Path:
        """SQLite file of MLflow's tracking store and registry."""
        return self.root / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """Folder of MLflow's artifacts."""
        return self.root / "artifacts"

    @property
    def studies(self) -> Path:
        """SQLite file of Optuna's studies: every search that was begun, trial by trial."""
        return self.root / "tuning.db"

    @property
    def serving(self) -> Path:
        """Served models and the record of the active server."""
        return self.root / "serving"

    @property
    def logs(self) -> Path:
        """Logs of the processes that outlive a command."""
        return self.root / "logs"

    @property
    def locks(self) -> Path:
        """Lock files; the operating system frees them when their owner dies."""
        return self.root / "locks"


def home() -> Home:
    """Return the installation that ``DEMAND_HOME`` names, read at each call.

    Raises
    ------
    StateError
        It is a file, or below one; names the file.
    """
    value = os.environ.get("DEMAND_HOME")
    root = Path(value).expanduser().resolve() if value else PROJECT_ROOT / ".demand"
    there = next(path for path in (root, *root.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise StateError(
            f"state cannot be kept in {root}: {there} is a file; set DEMAND_HOME to a folder"
        )
    return Home(root)


def reports_folder(pipeline: str) -> Path:
    """Return the folder of one pipeline's reports, created if absent."""
    value = os.environ.get("DEMAND_REPORTS")
    root = Path(value).expanduser().resolve() if value else PROJECT_ROOT / "reports"
    folder = root / pipeline
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot create the reports folder {folder}: {error.strerror}") from error
    return folder


@contextlib.contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path`` that replaces it when the block succeeds.

    After an exception, Ctrl-C or ``kill -9`` the old file is still whole.

    Raises
    ------
    StateError
        The disk is full or the folder cannot be written; names the file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise StateError(
            f"cannot write {path}: {error.strerror or error}; the file from before is untouched"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def write_aside_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` that takes its place when the block succeeds."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except shutil.Error as error:
        # Copying a tree goes on after a failure; the first of all says enough.
        raise StateError(f"cannot write {path}: {error.args[0][0][2]}") from error
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


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
    """Hold ``lock`` for the block; the lock dies with its process, however that ends.

    Parameters
    ----------
    lock
        Lock file; created if absent and never removed.
    purpose
        What the holder does, for the message to the one who comes second.
    wait
        Wait for the other holder instead of failing.

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
