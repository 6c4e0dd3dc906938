"""Which version of data and code a run used, and the ads that DVC pins.

DVC itself is slow to start, so its files are read here as the YAML they are, and its
program is started only to store something in its cache.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demand.config import DataSettings
from demand.errors import StateError
from demand.workspace.workspace import PROJECT_ROOT, read_json, write_aside, write_json

DATA_PIN = "data.dvc"
# What `dvc.yaml` names and git holds: the results of the last `dvc repro`, which are no code.
METRICS_FOLDER = "metrics"
_RESULTS = (":!/dvc.lock", f":!/{METRICS_FOLDER}")
_PLOTTED = ("curves.csv", "calibration.csv")
_METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class DvcVersion:
    """What DVC knows of a file."""

    source: Path  # the ``.dvc`` file or ``dvc.lock`` that tracks it
    md5: str  # the version that it names, hexadecimal
    matches: bool  # whether the file's bytes are that version


def file_md5(path: Path) -> str:
    """Return the MD5 of a file's bytes, hexadecimal: DVC's name for a version."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def dvc_version(path: Path, md5: str | None = None) -> DvcVersion | None:
    """Return the version that DVC has of ``path``, or None where it tracks no such file.

    Looks at the ``.dvc`` files and the ``dvc.lock`` beside the file and in the folders
    above, as far as the root of its DVC project. A tracked *folder* that holds the file
    does not count. Files of DVC that cannot be read are passed over. Of a link, its own
    place is looked at first, then what it leads to: DVC's ``cache.type symlink`` makes links
    of what it tracks, and a user may have made one to that.

    The file exists; ``md5`` is that of its bytes, where the caller knows it already.
    """
    place = _place(path)
    for source in _sources(place.parent):
        for out in _outs(source):
            if out.get("md5") and _place(source.parent / str(out.get("path"))) == place:
                return DvcVersion(source, out["md5"], out["md5"] == (md5 or file_md5(place)))
    return dvc_version(place.parent / place.readlink(), md5) if place.is_symlink() else None


def git_commit(code: Path = Path(__file__)) -> str | None:
    """Return the commit of ``code``, with ``-dirty`` after it if tracked files changed.

    None outside git, and where the repository around the file does not track it, as when
    we are installed into somebody else's project. What ``dvc repro`` found does not count.
    """
    folder = code.resolve().parent
    if _told(folder, "git", "ls-files", "--error-unmatch", code.name) is None:
        return None
    commit = _told(folder, "git", "rev-parse", "HEAD")
    status = ("git", "status", "--porcelain", "--untracked-files=no", "--", ":/")
    changes = _told(folder, *status, *_RESULTS)
    return f"{commit}-dirty" if commit and changes else commit


def demo_file(rows: int, seed: int) -> Path:
    """Return where the demo ads of this size and seed live in the project.

    Only the default ads have the name that ``data.dvc`` pins, so that others never take
    their place.
    """
    settings = DataSettings()
    is_default = (rows, seed) == (settings.demo_rows, settings.demo_seed)
    return PROJECT_ROOT / "data" / ("demo.csv" if is_default else f"demo-{rows}-{seed}.csv")


def ensure_demo_ads(
    path: Path, rows: int, seed: int, progress: Callable[[str], None] = lambda _: None
) -> Path:
    """Generate the demo ads where they are absent, and check that they are the pinned ones.

    The default ads (:func:`demo_file`) are compared with ``data.dvc`` at every call, and
    stored in DVC's cache when they are generated, so that ``dvc status`` is clean. ``progress``
    gets one line a thing that takes time. Returns ``path``, which exists now.

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
    if generated and _store(DATA_PIN):
        progress("kept the demo ads in DVC's cache")
    return path


def keep_metrics(reports: Path, folder: Path) -> None:
    """Leave the figures of a training run for git to hold: ``dvc.yaml``'s metrics and plots.

    They go from the folder ``reports`` into ``folder``. The same ads, code, config and processor
    give the same bytes: the lineage, durations, and the comparison with a champion that only
    this installation has, are left out.

    Raises
    ------
    StateError
        A file cannot be read or written; names it.
    """
    import pandas as pd

    whole = read_json(reports / _METRICS_FILE)
    figures = [name for name in whole if type(whole[name]) in (int, float)]
    comparable = {name: whole[name] for name in figures if not name.startswith("champion_")}
    write_json(folder / _METRICS_FILE, comparable)
    for name in _PLOTTED:
        table = pd.read_csv(reports / name, dtype=str, keep_default_na=False)
        with write_aside(folder / name) as aside:
            table.drop(columns="seconds", errors="ignore").to_csv(aside, index=False)


def _place(path: Path) -> Path:
    """Return where a file lies, the links above it followed, but not the file's own."""
    return path.parent.resolve() / path.name


def _sources(folder: Path) -> list[Path]:
    """Return the files of DVC from ``folder`` up to its project's root; none outside of one."""
    found: list[Path] = []
    for parent in (folder, *folder.parents):
        found += [*sorted(parent.glob("*.dvc")), parent / "dvc.lock"]
        if (parent / ".dvc").is_dir():
            return [source for source in found if source.is_file()]
    return []


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


def _store(pin: str) -> bool:
    """Put what a file of DVC pins into DVC's cache; say whether DVC did it."""
    command = (sys.executable, "-m", "dvc", "commit", "--quiet", "--force", pin)
    return _told(PROJECT_ROOT, *command, timeout_s=600.0) is not None


def _told(folder: Path, *command: str, timeout_s: float = 60.0) -> str | None:
    """Return what a command prints, or None where it fails or is not installed."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
