"""Decisions as they were made, a line of JSON each, and the same made again."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from demand.errors import StateError
from demand.monitoring.rules import Decision, decide, inputs_md5


def append(path: Path, decision: Decision) -> None:
    """Add a decision to a file, in place of a last line that a crash cut short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(f"{decision.model_dump_json()}\n".encode())
        file.flush()
        os.fsync(file.fileno())


class Replayed(NamedTuple):
    """A decision made again: the line of the file it stands in, from 1, and what differs."""

    line: int
    decision: Decision
    problem: str | None  # None: the same verdict of the same inputs


def replay(path: Path) -> Iterator[Replayed]:
    """Make the decisions of a file again, from the inputs that it has.

    Raises
    ------
    StateError
        The file cannot be read, or a line is no decision; it is named.
    """
    for line, decision in read(path):
        again = decide(decision.subject, decision.rules, decision.windows, decision.at)
        problem = None
        if inputs_md5(decision.subject, decision.rules, decision.windows) != decision.inputs_md5:
            problem = "its inputs are not those of its md5"
        elif again != decision:
            problem = f"again it would be {again.verdict}, but it was {decision.verdict}"
            if again.verdict == decision.verdict:
                problem = "the verdict is the same, but its findings differ"
        yield Replayed(line, decision, problem)


def read(path: Path) -> Iterator[tuple[int, Decision]]:
    """Yield number, from 1, and decision of each line; errors as of :func:`replay`.

    A last line without its end is one that a crash cut short, and is left out.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError as error:
        raise StateError(
            f"there are no decisions in {path}: `python run.py --pipeline monitoring` makes one"
        ) from error
    except OSError as error:
        raise StateError(f"cannot read the decisions {path}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or (number == len(lines) and not line.endswith(b"\n")):
            continue
        try:
            yield number, Decision.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise StateError(
                f"line {number} of {path} is no decision: {where}: {first['msg']}"
            ) from error
