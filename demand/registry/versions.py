"""Versions of the registered model with their lineage, and the changes of its champion.

Both are kept by MLflow: lineage as tags of the version, each change as a tag of the model.

Importing MLflow's client takes seconds and 190 MB. So whoever changes the registry with this
project writes its champion to ``champion.json``, for processes that do without MLflow. The
alias remains the truth: where the database has changed since, as by MLflow's own page, a
process of its own asks it anew.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlparse

from demand.errors import StateError
from demand.workspace.workspace import PROJECT_ROOT, Workspace, exclusive, read_json, write_json

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SERVED = "served"
# Followed by a number, so that the order of the keys is that of the changes.
CHANGE_TAG = "demand.change."
BEGUN_TAG = "demand.begun"
_REASON_LENGTH = 500
# A change by this project writes the champion's file so soon that nobody need ask.
_SETTLED_S = 1.0
# Between two questions; the database also changes with every run that is tracked.
_AGAIN_S = 30.0
_ANSWER_S = 300.0

Action = Literal["promote", "rollback", "withdraw"]


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of the registered model; what a version made by hand lacks is empty.

    ``data_md5`` is of the bytes it was trained on, ``fingerprint`` the same for the same data,
    code and config, ``source`` the folder of the MLflow model, ``files_sha256`` what
    :func:`demand.registry.model_files.damage` compares with, ``created_at`` ISO time in UTC;
    ``tags`` holds all tags, further lineage among them.
    """

    version: str
    run_id: str
    model_id: str
    data_md5: str
    fingerprint: str
    metrics: dict[str, float]
    source: Path
    files_sha256: str
    created_at: str
    tags: dict[str, str]

    @property
    def has_served(self) -> bool:
        """Whether it has ever answered as a deployed server."""
        return SERVED in self.tags


def registered_version(found: ModelVersion) -> RegisteredVersion:
    """Read MLflow's model version."""
    tags = {str(name): str(value) for name, value in found.tags.items()}
    created = datetime.datetime.fromtimestamp(found.creation_timestamp / 1000, datetime.UTC)
    return RegisteredVersion(
        version=str(found.version),
        run_id=str(found.run_id or ""),
        model_id=str(found.model_id or ""),
        data_md5=tags.get("data_md5", ""),
        fingerprint=tags.get("fingerprint", ""),
        metrics=json.loads(tags.get("metrics", "{}")),
        source=local_folder(str(found.source)),
        files_sha256=tags.get("files_sha256", ""),
        created_at=created.isoformat(timespec="seconds"),
        tags=tags,
    )


def local_folder(location: str) -> Path:
    """Return the folder that a ``file://`` URI or a plain path names."""
    parsed = urlparse(location)
    return Path(unquote(parsed.path)) if parsed.scheme == "file" else Path(location)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under an id without a name
        return f"uid {os.getuid()}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Transition:
    """One change of the champion: why, by which user, ``at`` which ISO time in UTC.

    ``action`` is ``promote``, ``rollback``, or ``withdraw`` (a promotion undone); ``from_version``
    and ``to_version`` are the champion before and after, None where there was or is none;
    ``previous`` is the version that a rollback would go to from now on, or None; ``id`` tells
    two transitions apart.
    """

    action: Action
    from_version: str | None
    to_version: str | None
    previous: str | None
    reason: str
    who: str = field(default_factory=_user)
    at: str = field(default_factory=_now)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def to_json(self) -> str:
        """Return the transition as a tag keeps it."""
        told = asdict(self) | {"reason": self.reason[:_REASON_LENGTH]}
        return json.dumps(told, ensure_ascii=False)


def change_key(tags: Mapping[str, str]) -> str:
    """Return the key under which the next transition is kept."""
    last = max((key for key in tags if key.startswith(CHANGE_TAG)), default=f"{CHANGE_TAG}0")
    return f"{CHANGE_TAG}{int(last.removeprefix(CHANGE_TAG)) + 1:06}"


def changes_in(tags: Mapping[str, str]) -> list[Transition]:
    """Return the transitions that a registered model's tags tell, the oldest first."""
    return parsed(tags[key] for key in sorted(tags) if key.startswith(CHANGE_TAG))


def parsed(texts: Iterable[str]) -> list[Transition]:
    """Read transitions; a text that is none, such as a line cut off by a crash, is left out."""
    found = []
    for text in texts:
        with contextlib.suppress(ValueError, TypeError):
            found.append(Transition(**json.loads(text)))
    return found


def read_champion(workspace: Workspace) -> RegisteredVersion | None:
    """Return the version that the alias ``champion`` names; None where there is none yet.

    A change made without this project is seen within a minute. That the registry cannot be
    read is a StateError that says why.
    """
    if not workspace.mlflow_database.exists():
        return None
    if not champion_file(workspace).exists():
        _ask_registry(workspace)
    elif _is_behind(workspace):
        threading.Thread(target=_ask_registry, args=(workspace,), daemon=True).start()
    return told_champion(workspace)


def told_champion(workspace: Workspace) -> RegisteredVersion | None:
    """Return the champion of the file, whatever became of the alias since.

    StateError where there is no such file, or it is damaged, or says that the registry is.
    """
    return _told(workspace, "champion")


def _told(workspace: Workspace, name: str) -> RegisteredVersion | None:
    told = read_json(champion_file(workspace))
    try:
        if "error" in told:
            raise StateError(told["error"])
        # Files of before tell of no previous one.
        found = told["champion"] if name == "champion" else told.get(name)
        return found and RegisteredVersion(**found | {"source": Path(found["source"])})
    except (LookupError, TypeError) as error:
        raise StateError(f"{champion_file(workspace)} is damaged: remove it") from error


def told_previous(workspace: Workspace) -> RegisteredVersion | None:
    """Return the champion before that of :func:`told_champion`; errors as there."""
    return _told(workspace, "previous")


def write_champion(
    workspace: Workspace, champion: RegisteredVersion | None, previous: RegisteredVersion | None
) -> None:
    """Write what :func:`read_champion` and :func:`told_previous` return; atomic."""
    told = {
        name: version and asdict(version) | {"source": str(version.source)}
        for name, version in (("champion", champion), ("previous", previous))
    }
    write_json(champion_file(workspace), told)


def champion_file(workspace: Workspace) -> Path:
    """Return where the champion is written."""
    return workspace.root / "champion.json"


def _is_behind(workspace: Workspace) -> bool:
    """Say whether the database has changed since the file was written, and is quiet now."""
    told, asked = _changed_at(champion_file(workspace)), _changed_at(_lock(workspace))
    now, changed = time.time(), _changed_at(workspace.mlflow_database)
    return told < changed < now - _SETTLED_S and asked < now - _AGAIN_S


def _ask_registry(workspace: Workspace) -> None:
    """Let another process write the file, if none does so already."""
    command = [sys.executable, "-m", "demand.registry.registry", str(workspace.root)]
    with (
        contextlib.suppress(StateError, subprocess.TimeoutExpired),
        exclusive(_lock(workspace), "reading the registry"),
    ):
        subprocess.run(command, cwd=PROJECT_ROOT, timeout=_ANSWER_S, check=False)


def _lock(workspace: Workspace) -> Path:
    return workspace.locks / "reader.lock"


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
