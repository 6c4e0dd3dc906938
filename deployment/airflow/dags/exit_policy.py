"""What the exit status of ``run.py --pipeline training`` means to a scheduler.

No Airflow here: the policy is a plain function, so it is tested without one.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Sequence
from dataclasses import dataclass

GATE_PHRASE = "gate said no"
# What the program's last word begins with. Lines of an error after its first are
# details, some of them quoted and thus indented.
SPOKEN = ("error: ", "stopped: ", "run.py: ")


class Outcome(enum.Enum):
    """How a retraining ended."""

    DEPLOYED = "deployed"
    REFUSED = "a gate said no"
    WRONG_USAGE = "wrong usage"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """What a scheduler does about an exit status: the outcome, and one line for people."""

    outcome: Outcome
    message: str


def judge(status: int, last_lines: Sequence[str]) -> Verdict:
    """Say what an exit status means.

    Parameters
    ----------
    status
        As :mod:`subprocess` gives it: 0 to 255, or minus the number of the signal
        that ended the job.
    last_lines
        The end of the job's output, oldest first; the reason is taken from it.

    Returns
    -------
    Verdict
        0 is deployed; 2 a gate's no, which another try of the same data and code
        would only repeat; 64 wrong usage, which only a person can mend. All else is
        an error that a later try may not meet again (a taken port, another run at
        work, no memory), also a status that the contract does not name.
    """
    if status == 0:
        return Verdict(Outcome.DEPLOYED, "the new model is deployed")
    if status == 2:
        return Verdict(Outcome.REFUSED, _reason(last_lines))
    if status == 64:
        return Verdict(Outcome.WRONG_USAGE, f"wrong usage: {_said(last_lines)}")
    return Verdict(Outcome.ERROR, f"{_ending(status)}: {_said(last_lines)}")


def _reason(lines: Sequence[str]) -> str:
    """Return the line in which the gate speaks, or what was said last as the gate's."""
    spoken = [line.strip() for line in lines if GATE_PHRASE in line]
    return spoken[-1] if spoken else f"a {GATE_PHRASE}: {_said(lines)}"


def _said(lines: Sequence[str]) -> str:
    """Return the last line that says why the program ended, or else that is not blank."""
    written = [line.rstrip() for line in lines if line.strip()]
    spoken = [line for line in written if line.startswith(SPOKEN)]
    return (spoken or written or ["the job wrote nothing"])[-1].strip()


def _ending(status: int) -> str:
    """Name a status: the number, or the signal that ended the job."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"
