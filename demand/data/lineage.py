"""Where a model comes from: the bytes of its data, the code and the config."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from typing import Any

import pathspec

from demand.config import TrainingConfig
from demand.workspace.workspace import PROJECT_ROOT

# Libraries whose other version may give another model, or another verdict on it.
_LIBRARIES = (
    *("torch", "numpy", "numba", "pandas", "scipy", "scikit-learn"),
    *("great_expectations", "giskard", "mlflow"),
)
_SOURCES = (".py", ".json", ".j2", ".html", ".mplstyle")
_FOLDERS = ("demand", "orchestration", "pipelines", "steps")
# How what was found is told; `.dvcignore` has all else that cannot change a model or a verdict.
REPORTS = ("demand/reports/", "demand/schema/error_text.py")


def code_fingerprint() -> str:
    """Return a digest of the sources that decide a model, and of the libraries' versions.

    It joins ZenML's cache keys, since ZenML looks only at the code of the step itself,
    and it is part of a model's fingerprint. Pages, commands, reports and the words of the
    demo ads are left out: a wording trains nothing anew. Hexadecimal.
    """
    return _model_code(reports=False)


def report_fingerprint() -> str:
    """Return :func:`code_fingerprint` with the sources of reports, for steps that only tell."""
    return _model_code(reports=True)


def code_digest(folders: Sequence[str], counts: Callable[[str], bool] = lambda _: True) -> str:
    """Return a digest of the sources in ``folders`` of the project, hexadecimal.

    ``counts`` gets the path of each below the project, and says whether it is one of them.
    """
    digest = hashlib.md5(usedforsecurity=False)
    for folder in folders:
        for path in sorted((PROJECT_ROOT / folder).rglob("*")):
            name = path.relative_to(PROJECT_ROOT).as_posix()
            if path.suffix in _SOURCES and counts(name):
                digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _model_code(*, reports: bool) -> str:
    lines = (PROJECT_ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    ignored = pathspec.GitIgnoreSpec.from_lines(lines)

    def counts(name: str) -> bool:
        return not ignored.match_file(name) or (reports and name.startswith(REPORTS))

    parts = [code_digest(_FOLDERS, counts)]
    parts += [f"{library}=={importlib.metadata.version(library)}" for library in _LIBRARIES]
    return hashlib.md5("\n".join(parts).encode(), usedforsecurity=False).hexdigest()


def model_settings(config: TrainingConfig) -> dict[str, Any]:
    """Return the part of the config that decides what a model answers, JSON-able."""
    sections = {"seed", "validation", "split", "features", "training"}
    return config.model_dump(mode="json", include=sections)


def model_fingerprint(data_md5: str, config: TrainingConfig) -> str:
    """Return a digest of all that decides a model: data, code and config, hexadecimal."""
    settings = json.dumps(model_settings(config), sort_keys=True)
    parts = [data_md5, code_fingerprint(), settings]
    return hashlib.md5("\n".join(parts).encode(), usedforsecurity=False).hexdigest()
