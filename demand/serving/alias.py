"""The champion as the registry's database names it, read without MLflow.

A process that only answers should not carry MLflow: importing it takes seconds and 150 MB,
and its client writes. Three tables of its SQLite file say all that is needed.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from demand.errors import StateError
from demand.serving.model_files import local_folder
from demand.serving.registry import CHAMPION, MODEL

_VERSION = """
SELECT aliases.version, versions.source FROM registered_model_aliases AS aliases
JOIN model_versions AS versions
ON versions.name = aliases.name AND versions.version = aliases.version
WHERE aliases.name = ? AND aliases.alias = ?
"""
_TAGS = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
# A writer may hold the file for a moment; whoever polls asks again anyway.
_PATIENCE_S = 0.2


@dataclass(frozen=True)
class Champion:
    """The registered version that is to serve.

    Parameters
    ----------
    version
        Its number, as text.
    source
        Folder of the MLflow model.
    files_sha256
        Digest of that folder when it was registered.
    data_md5
        The bytes that it was trained on; empty where unknown.
    metrics
        Figures of its evaluation.
    """

    version: str
    source: Path
    files_sha256: str
    data_md5: str
    metrics: dict[str, float]


def read_champion(database: Path) -> Champion | None:
    """Return the version that the alias ``champion`` names; None where there is none yet.

    Raises
    ------
    StateError
        The database is locked, damaged or of another form; names it.
    """
    if not database.exists():
        return None
    uri = f"file:{quote(str(database))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S)) as store:
            found = store.execute(_VERSION, (MODEL, CHAMPION)).fetchone()
            if found is None:
                return None
            tags = dict(store.execute(_TAGS, (MODEL, found[0])).fetchall())
        return Champion(
            str(found[0]),
            local_folder(str(found[1])),
            str(tags.get("files_sha256", "")),
            str(tags.get("data_md5", "")),
            json.loads(tags.get("metrics", "{}")),
        )
    except (sqlite3.Error, ValueError) as error:
        raise StateError(f"cannot read the registry in {database}: {error}") from error
