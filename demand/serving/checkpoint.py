"""Answers of batch inference that are not yet whole, and outlive the run that writes them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel

from demand.data.flaws import Findings
from demand.errors import StateError
from demand.workspace.workspace import current_workspace, exclusive, write_aside

ANSWERS = "answers.csv"
_CHECKPOINT = "checkpoint.json"


class Checkpoint(BaseModel):
    """How far a file of ads was answered into the file of answers beside this one."""

    run: tuple[str, ...]  # what must be the same to go on
    parts: int = 0
    size: int = 0  # of the answers, in bytes
    found: Findings = Findings()

    def save(self, folder: Path) -> None:
        """Let the next run go on from here."""
        with write_aside(folder / _CHECKPOINT) as aside:
            aside.write_text(self.model_dump_json(), encoding="utf-8")


def last_checkpoint(folder: Path, run: tuple[str, ...]) -> Checkpoint:
    """Return where the same run was interrupted, or the beginning."""
    try:
        done = Checkpoint.model_validate_json((folder / _CHECKPOINT).read_bytes())
        same = done.run == run and (folder / ANSWERS).stat().st_size >= done.size
    except (OSError, ValueError):
        same = False
    return done if same else Checkpoint(run=run)


@contextmanager
def answers_folder(output: Path) -> Iterator[Path]:
    """Hold the folder of answers that are to be at ``output``.

    StateError: another run writes them.
    """
    key = hashlib.sha256(os.fsencode(output.parent.resolve() / output.name)).hexdigest()[:16]
    folder = current_workspace().batch / key
    with _held(folder, f"answers to {output}"):
        yield folder


def _held(folder: Path, purpose: str) -> AbstractContextManager[None]:
    return exclusive(current_workspace().locks / f"batch-{folder.name}.lock", purpose)


def interrupted_answers() -> dict[Path, float]:
    """Return folders that no run is writing to now, and when each was begun, in Unix time."""
    found = {}
    for folder in current_workspace().batch.glob("*"):
        # A run that holds it, or has ended meanwhile, was not interrupted.
        with suppress(StateError, OSError), _held(folder, "looking for interrupted runs"):
            found[folder] = folder.stat().st_mtime
    return found


def remove_answers(folder: Path) -> None:
    """Remove what an interrupted run left, unless a run goes on with it meanwhile."""
    with suppress(StateError), _held(folder, "removing an interrupted run"):
        shutil.rmtree(folder, ignore_errors=True)
