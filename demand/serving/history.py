"""Every change of the champion, in a file that is only ever appended to."""

from __future__ import annotations

import datetime
import getpass
import json
import os
import uuid
from dataclasses import asdict, dataclass
from typing import Literal

from demand.errors import StateError
from demand.state import Home

Action = Literal["promote", "rollback", "withdraw"]

_REASON_LENGTH = 500


@dataclass(frozen=True)
class Transition:
    """One change of the champion.

    Parameters
    ----------
    action
        ``promote``, ``rollback``, or ``withdraw`` (a promotion undone).
    from_version, to_version
        The champion before and after; None where there was or is none.
    previous
        The version that a rollback would go to from now on, or None.
    reason, who, at
        Why, which user, ISO time in UTC.
    id
        Tells two transitions apart.
    """

    action: Action
    from_version: str | None
    to_version: str | None
    previous: str | None
    reason: str
    who: str
    at: str
    id: str


def transition(
    action: Action,
    from_version: str | None,
    to_version: str | None,
    previous: str | None,
    reason: str,
    who: str | None,
) -> Transition:
    """Return a transition of now, by ``who`` or the user of this process."""
    return Transition(
        action=action,
        from_version=from_version,
        to_version=to_version,
        previous=previous,
        reason=reason[:_REASON_LENGTH],
        who=who or _user(),
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        id=uuid.uuid4().hex,
    )


def history(place: Home) -> list[Transition]:
    """Return all transitions, the oldest first; a line cut off by a crash is left out."""
    try:
        lines = (place.root / "history.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StateError(f"cannot read {place.root / 'history.jsonl'}: {error}") from error
    found = []
    for line in lines:
        try:
            found.append(Transition(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def append(place: Home, change: Transition) -> None:
    """Append one line; on disk when this returns.

    Raises
    ------
    StateError
        The file cannot be written.
    """
    path = place.root / "history.jsonl"
    line = json.dumps(asdict(change), ensure_ascii=False) + "\n"
    try:
        with path.open("a+b") as file:
            # The line before may lack its end, if its writer was killed.
            if file.tell() and not _ends_with_newline(file.fileno()):
                line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from error


def _ends_with_newline(file: int) -> bool:
    return os.pread(file, 1, os.fstat(file).st_size - 1) == b"\n"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under an id without a name
        return f"uid {os.getuid()}"
