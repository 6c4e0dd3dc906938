"""The files of a registered version: whole or refused, copied to where they serve, and told of.

Its texts, the market and the card, are read and encoded once, when a model is loaded, so that
telling them costs nothing. What is wrong with one of them is no reason for a model not to answer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demand.errors import ModelError
from demand.workspace.workspace import write_aside_folder

if TYPE_CHECKING:
    import pandas as pd

    from demand.features.known_values import KnownValues
    from demand.model.predictor import Predictor
    from demand.registry.versions import RegisteredVersion

# Where its texts lie in an MLflow model of ours.
CARD_FOLDER = "card"
CARD_FILE = Path(CARD_FOLDER) / "card.json"
MARKET_FILE = Path("market.json")
# What it was like when it was judged: see demand.monitoring.reference.
REFERENCE_FILE = Path("reference.parquet")
# The fit that was judged on held-out ads, beside its refit that serves.
HELD_OUT = "held_out"

_MLFLOWS_OWN = "registered_model_meta"
# What is read where it is there, though a model need not have it.
_OPTIONAL = {
    f"{HELD_OUT}/predictor.json",
    *(path.as_posix() for path in (CARD_FILE, MARKET_FILE, REFERENCE_FILE)),
}
_BYTES_MAX = 16 * 2**20
_DESCRIPTION_LENGTH = 5000  # of MLflow's column
_log = logging.getLogger("demand.facts")


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 of each file below ``folder`` by its relative path, as JSON.

    ``registered_model_meta`` is left out: MLflow writes it there whenever somebody loads
    the model by its name. A folder that is missing, empty, or cannot be read is a ModelError.
    """
    digests = {name: _sha256(folder, name) for name in _names(folder) if name != _MLFLOWS_OWN}
    return json.dumps(digests)


def damage(folder: Path, registered: str) -> str | None:
    """Say what is wrong with the files of a registered model; None where they are whole.

    They are whole where each file that was registered is as it was: as ``registered``, what
    :func:`folder_digest` said then, has it. What others put beside them does no harm, except
    where it would be read: there it is damage. ``folder`` may be a copy of the MLflow model.
    """
    try:
        if not registered.startswith("{"):
            return _damage_of_all(folder, registered)
        digests: dict[str, str] = json.loads(registered)
        present = set(_names(folder))
        for name, digest in digests.items():
            if name not in present:
                return f"{name} is missing"
            if _sha256(folder, name) != digest:
                return f"{name} was changed"
        return next((f"{name} was added" for name in _OPTIONAL & (present - digests.keys())), None)
    except ModelError as error:
        return str(error)
    except ValueError as error:
        return f"its digests in the registry are damaged: {error}"


def _damage_of_all(folder: Path, registered: str) -> str | None:
    """Compare with the one digest over all files that older versions were registered with."""
    names = _names(folder)
    # The file may have been there already when the version was registered.
    for counted in ([name for name in names if name != _MLFLOWS_OWN], names):
        lines = (f"{name}\0{_sha256(folder, name)}\n" for name in counted)
        if hashlib.sha256("".join(lines).encode()).hexdigest() == registered:
            return None
    return "they differ from those that were registered"


def _names(folder: Path) -> list[str]:
    """Return the relative paths of all files, in the order of their parts."""
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
    except OSError as error:
        raise ModelError(f"cannot read the model in {folder}: {error.strerror}") from error
    if not files:
        raise ModelError(f"there is no model in {folder}")
    return [path.relative_to(folder).as_posix() for path in files]


def _sha256(folder: Path, name: str) -> str:
    try:
        return hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read the model's {folder / name}: {error.strerror}") from error


def damage_of(version: RegisteredVersion) -> str | None:
    """Say that the files of a version are to be restored, and why; None where they are whole."""
    found = damage(version.source, version.files_sha256)
    return found and (
        f"the files of version {version.version} in {version.source} are missing or damaged "
        f"({found}): restore them"
    )


def load_predictor(version: RegisteredVersion, *, judged: bool = False) -> Predictor:
    """Load the Predictor of a registered version, once its files are seen to be whole.

    With ``judged`` that is the fit whose figures are known, where what serves was refitted
    on all ads. Files that are missing or were changed since are a ModelError.
    """
    # Who only asks what serves, such as `demand status`, needs no model.
    from demand.model.predictor import JSON_NAME, Predictor

    if told := damage_of(version):
        raise ModelError(f"{told}, or go back with `demand rollback`")
    held_out = version.source / HELD_OUT
    if judged and (held_out / JSON_NAME).is_file():
        return Predictor.load(held_out)
    return Predictor.load(version.source / "data" / "predictor")


def read_reference(version: RegisteredVersion) -> pd.DataFrame | None:
    """Return what production is compared with; None of a model that was packaged without it.

    Files that are missing or were changed since are a ModelError.
    """
    import pandas as pd

    if told := damage_of(version):
        raise ModelError(told)
    path = version.source / REFERENCE_FILE
    return pd.read_parquet(path) if path.exists() else None


def copy_model(version: RegisteredVersion, folder: Path) -> None:
    """Bring a version's files to ``folder``, unless they are there already.

    It is a ModelError that neither place has the files that were registered, and a StateError
    that the copy cannot be written.
    """
    source, registered = version.source, version.files_sha256
    if damage(folder, registered) is None:
        return
    if told := damage_of(version):
        raise ModelError(f"{told} from a backup, or serve the version before it")
    own = json.loads(registered) if registered.startswith("{") else _names(source)
    with write_aside_folder(folder) as temporary:
        for name in own:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, temporary / name)


@dataclass(frozen=True)
class Fact:
    """A JSON text in UTF-8, or, in one line, ``why`` there is none."""

    body: bytes | None = None
    why: str = "the model that answers was packaged without it"


@dataclass(frozen=True)
class Facts:
    """What can be told of the model that answers.

    ``market`` is of the ads that it learnt from, see :mod:`demand.features.category_statistics`,
    ``card`` see :func:`demand.reports.card.card_data`; ``model_version`` is added.
    """

    market: Fact = Fact()
    card: Fact = Fact()

    @cached_property
    def known(self) -> KnownValues:
        """The categories, regions and user types that the model has learnt from."""
        # With numba, which who only reads facts does without.
        from demand.features.known_values import KnownValues

        return KnownValues.from_statistics(json.loads(self.market.body or b"{}"))


NO_FACTS = Facts()


def read_facts(folder: Path, version: str) -> Facts:
    """Read what lies in the folder of an MLflow model.

    Never raises: a file that is absent, unreadable, over 16 MiB or no JSON object becomes
    a :class:`Fact` without a body, and all but the first is said in the log. ``version`` is that
    of the registered model, for the card.
    """
    return Facts(
        market=_read(folder / MARKET_FILE), card=_read(folder / CARD_FILE, model_version=version)
    )


def description(folder: Path) -> tuple[str, str]:
    """Return what MLflow's page says of a version, and of the registered model: Markdown.

    That is how the model card in the folder of an MLflow model begins, and what it says the
    model is for; both are empty where there is no card.
    """
    try:
        card = (folder / CARD_FOLDER / "model_card.md").read_text(encoding="utf-8")
    except OSError:
        return "", ""
    begins, _, _ = card.partition("\n## Data\n")
    _, _, purpose = begins.partition("\n## What it is for, and what not\n")
    return begins.strip()[:_DESCRIPTION_LENGTH], purpose.strip()[:_DESCRIPTION_LENGTH]


def _read(path: Path, **added: Any) -> Fact:
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
        if len(content) > _BYTES_MAX:
            raise ValueError(f"over {_BYTES_MAX >> 20} MiB")
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        # Encoded anew, since what is read leniently might be no JSON for others.
        told = found | added
        text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return Fact(text.encode())
    except FileNotFoundError:
        return Fact()
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        _log.warning("%s is damaged and will not be told: %s", path, why)
        return Fact(why=f"the model's {path.name} is damaged; the server's log says more")
