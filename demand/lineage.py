"""Where a model comes from: the bytes of its data, the code and the config."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from demand.config import TrainingConfig

PACKAGE = Path(__file__).resolve().parent
# Libraries whose other version may give another model, or another verdict on it.
_LIBRARIES = (
    "torch",
    "numpy",
    "numba",
    "pandas",
    "scipy",
    "scikit-learn",
    "great_expectations",
    "giskard",
    "mlflow",
)
# Parts of the package that cannot change what a model answers.
_BESIDE_THE_MODEL = ("cli.py", "commands", "dashboard")
_SOURCES = (".py", ".json", ".j2")


def code_fingerprint() -> str:
    """Return a digest of our sources and of the libraries' versions, hexadecimal.

    It joins ZenML's cache keys, since ZenML looks only at the code of the step itself,
    and it is part of a model's fingerprint.
    """
    digest = hashlib.md5(usedforsecurity=False)
    for folder in (PACKAGE, PACKAGE.parent / "steps", PACKAGE.parent / "pipelines"):
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if path.suffix in _SOURCES and relative.parts[0] not in _BESIDE_THE_MODEL:
                name = f"{folder.name}/{relative.as_posix()}"
                digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    for library in _LIBRARIES:
        digest.update(f"{library}=={importlib.metadata.version(library)}\0".encode())
    return digest.hexdigest()


def model_settings(config: TrainingConfig) -> dict[str, Any]:
    """Return the part of the config that decides what a model answers, JSON-able."""
    sections = {"seed", "validation", "split", "features", "training"}
    return config.model_dump(mode="json", include=sections)


def model_fingerprint(data_md5: str, config: TrainingConfig) -> str:
    """Return a digest of all that decides a model: data, code and config, hexadecimal."""
    settings = json.dumps(model_settings(config), sort_keys=True)
    parts = [data_md5, code_fingerprint(), settings]
    return hashlib.md5("\n".join(parts).encode(), usedforsecurity=False).hexdigest()
