"""Which version of data and code a run used, and the ads that DVC pins.

DVC itself is slow to start, so its files are read here as the YAML they are, and its
program is started only to store something in its cache.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demand.config import DataSettings
from demand.errors import StateError
from demand.state import PROJECT_ROOT

DATA_PIN = "data.dvc"
TRAINING_STAGE = "training"
TRAINING_CONFIG = Path("configs/training.yaml")
DVC_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class DvcVersion:
    """What DVC knows of a file.

    Parameters
    ----------
    source
        The ``.dvc`` file or ``dvc.lock`` that tracks the file.
    md5
        The version it names, hexadecimal.
    matches
        Whether the file's bytes are that version.
    """

    source: Path
    md5: str
    matches: bool


def file_md5(path: Path) -> str:
    """Return the MD5 of a file's bytes, hexadecimal: DVC's name for a version."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def dvc_version(path: Path, md5: str | None = None) -> DvcVersion | None:
    """Return the version that DVC has of ``path``, or None where it tracks no such file.

    Looks at the ``.dvc`` files and the ``dvc.lock`` beside the file and in the folders
    above, as far as the root of its DVC project. A tracked *folder* that holds the file
    does not count. Files of DVC that cannot be read are passed over.

    Parameters
    ----------
    path
        An existing file.
    md5
        Its MD5 where the caller knows it already; read from the bytes otherwise.
    """
    target = path.resolve()
    for source, out in _tracked_outs(target.parent):
        if out.get("md5") and (source.parent / str(out.get("path"))).resolve() == target:
            actual = md5 or file_md5(target)
            return DvcVersion(source, out["md5"], out["md5"] == actual)
    return None


def git_commit(code: Path = Path(__file__)) -> str | None:
    """Return the commit of ``code``, with ``-dirty`` after it if tracked files changed.

    None outside git, and where the repository around the file does not track it, as when
    we are installed into somebody else's project. A changed ``dvc.lock`` does not count:
    runs write it, it is no code.
    """
    folder = code.resolve().parent
    if _git(folder, "ls-files", "--error-unmatch", code.name) is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    everything_but_the_lock = (":/", ":!/dvc.lock")
    changes = _git(
        folder, "status", "--porcelain", "--untracked-files=no", "--", *everything_but_the_lock
    )
    return f"{commit}-dirty" if commit and changes else commit


def demo_file(rows: int, seed: int) -> Path:
    """Return where the demo ads of this size and seed live in the project.

    Only the default ads have the name that ``data.dvc`` pins, so that others never take
    their place.
    """
    name = "demo.csv" if _is_default(rows, seed) else f"demo-{rows}-{seed}.csv"
    return PROJECT_ROOT / "data" / name


def ensure_demo_ads(
    path: Path, rows: int, seed: int, progress: Callable[[str], None] = lambda _: None
) -> Path:
    """Generate the demo ads where they are absent, and check that they are the pinned ones.

    The default ads (:func:`demo_file`) are compared with ``data.dvc`` at every call, and
    stored in DVC's cache once, so that ``dvc status`` is clean.

    Parameters
    ----------
    path
        The file, see :func:`demo_file`.
    rows, seed
        What to generate.
    progress
        Gets one line a thing that takes time.

    Returns
    -------
    Path
        ``path``, which exists now.

    Raises
    ------
    StateError
        The file is not the one that ``data.dvc`` pins, or cannot be written.
    """
    generated = not path.exists()
    if generated:
        from demand.demo import write_demo

        progress(f"generating {rows:,} demo ads in {path}")
        write_demo(path, rows, seed)
    version = dvc_version(path) if path == demo_file(rows, seed) else None
    if version is None:
        return path
    if not version.matches:
        cause = (
            "the generator has changed since it was pinned: if that is meant, run "
            f"`dvc commit --force {DATA_PIN}` and commit {DATA_PIN}"
            if generated
            else "delete it, and the next run generates it anew"
        )
        raise StateError(
            f"{path} is not the file that {version.source} pins "
            f"(MD5 {file_md5(path)}, pinned {version.md5}); {cause}"
        )
    if not _in_dvc_cache(version.md5) and _dvc_commit(DATA_PIN):
        progress("kept the demo ads in DVC's cache")
    return path


def record_training(data: Path, config: Path) -> bool:
    """Record a finished plain run as the result of DVC's stage ``training``.

    Then ``dvc status`` is clean after it and ``dvc repro`` does not train again. Only the
    run that the stage describes is recorded: on the default ads, with
    ``configs/training.yaml``, with its reports in the project.

    Parameters
    ----------
    data, config
        The file of ads and the config that the run used.

    Returns
    -------
    bool
        Whether it was recorded. A run inside ``dvc repro`` is recorded by DVC itself;
        a copy of the project without DVC or git, and a DVC busy elsewhere, are no errors.
    """
    settings = DataSettings()
    described = (
        data.resolve() == demo_file(settings.demo_rows, settings.demo_seed).resolve()
        and config.resolve() == (PROJECT_ROOT / TRAINING_CONFIG).resolve()
        and not os.environ.get("DEMAND_REPORTS")
    )
    return described and _dvc_commit(TRAINING_STAGE)


def _is_default(rows: int, seed: int) -> bool:
    settings = DataSettings()
    return (rows, seed) == (settings.demo_rows, settings.demo_seed)


def _tracked_outs(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each file of DVC from ``folder`` up to its project's root, with each of its outs."""
    above = [folder, *folder.parents]
    roots = [index for index, parent in enumerate(above) if (parent / ".dvc").is_dir()]
    for parent in above[: roots[0] + 1] if roots else []:
        for source in (*sorted(parent.glob("*.dvc")), parent / "dvc.lock"):
            if source.is_file():
                for out in _outs(source):
                    yield source, out


def _outs(source: Path) -> list[dict[str, Any]]:
    """Return the outs of one file of DVC, their paths relative to that file."""
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
        if source.name == "dvc.lock":
            return [out for stage in content["stages"].values() for out in stage.get("outs", [])]
        folder = Path(content.get("wdir", "."))
        return [{**out, "path": folder / out["path"]} for out in content["outs"]]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        return []


def _in_dvc_cache(md5: str) -> bool:
    """Say whether DVC's cache in the project has this version; another place is not looked at."""
    return (PROJECT_ROOT / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]).exists()


def _dvc_commit(target: str) -> bool:
    """Tell DVC that the files on disk are the outcome of ``target``; say whether it listened.

    Inside ``dvc repro`` DVC holds its own lock and does it itself: nothing is started.
    """
    if "DVC_STAGE" in os.environ or not (PROJECT_ROOT / ".dvc").is_dir():
        return False
    command = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force", target]
    try:
        done = subprocess.run(
            command, cwd=PROJECT_ROOT, capture_output=True, timeout=DVC_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, or None where it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
