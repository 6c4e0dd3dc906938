"""The files of a registered version: whole or refused, and copied to where they serve."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from demand.errors import ModelError
from demand.state import write_aside_folder

if TYPE_CHECKING:
    from demand.predictor import Predictor


def local_folder(location: str) -> Path:
    """Return the folder that a ``file://`` URI or a plain path names."""
    parsed = urlparse(location)
    return Path(unquote(parsed.path)) if parsed.scheme == "file" else Path(location)


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 of all files below ``folder``, names included.

    Raises
    ------
    ModelError
        The folder is missing, empty, or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    except OSError as error:
        raise ModelError(f"cannot read the model in {folder}: {error.strerror}") from error
    if not files:
        raise ModelError(f"there is no model in {folder}")
    return digest.hexdigest()


def is_whole(folder: Path, sha256: str) -> bool:
    """Say whether the files below ``folder`` are those that were registered."""
    try:
        return folder_digest(folder) == sha256
    except ModelError:
        return False


def load_predictor(version: str, source: Path, sha256: str) -> Predictor:
    """Load the Predictor of a registered version, once its files are seen to be whole.

    Raises
    ------
    ModelError
        They are missing, or were changed after the version was registered.
    """
    # Who only asks what serves, such as `demand status`, needs no model.
    from demand.predictor import Predictor

    require_whole(version, source, sha256)
    return Predictor.load(source / "data" / "predictor")


def require_whole(version: str, source: Path, sha256: str) -> None:
    """Demand that the files of a registered version are those that were registered.

    Raises
    ------
    ModelError
        They are not.
    """
    if not is_whole(source, sha256):
        raise ModelError(
            f"the files of version {version} in {source} are missing or damaged: "
            "go back with `demand rollback`"
        )


def copy_model(source: Path, sha256: str, folder: Path) -> None:
    """Bring a model's files to ``folder``, unless they are there already.

    Raises
    ------
    ModelError
        Neither place has the files that were registered; names the source.
    StateError
        The copy cannot be written.
    """
    if is_whole(folder, sha256):
        return
    if not is_whole(source, sha256):
        raise ModelError(
            f"the model in {source} is missing or damaged: it differs from what was registered; "
            "restore it from a backup, or serve the version before it"
        )
    with write_aside_folder(folder) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
