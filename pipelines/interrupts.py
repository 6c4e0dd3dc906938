"""Ending a run by Ctrl-C or SIGTERM without leaving a lock on its stores."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from zenml.orchestrators import signal_handler

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STORES = ("zenml.zen_stores.", "mlflow.store.", "sqlalchemy.")
_AGAIN_S = 0.02
# A store that takes longer is stuck, not busy.
_PATIENCE_S = 30.0


@contextmanager
def interrupted_between_transactions() -> Iterator[None]:
    """Raise KeyboardInterrupt for a signal, but not while a store is being read or written.

    ZenML's own handler asks its store from within the transaction that the signal
    happened to interrupt, whose lock then holds up the end of the run for a minute.
    And where libraries call back from machine code, what is raised there is only printed:
    then the signal comes again.
    """
    handler, printed = _Deferring(), sys.unraisablehook
    sys.unraisablehook = lambda lost: printed(lost) if not handler.repeats(lost) else None
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    zenml_signals = signal_handler._SIGNALS
    signal_handler._SIGNALS = ()
    for number, previous in before.items():
        if previous is not signal.SIG_IGN:  # as below nohup, or in the background of a script
            signal.signal(number, handler)
    try:
        yield
    finally:
        sys.unraisablehook = printed
        signal_handler._SIGNALS = zenml_signals
        for number, previous in before.items():
            signal.signal(number, previous)


class _Deferring:
    """A signal handler that puts the signal off until no store is at work."""

    def __init__(self) -> None:
        self._number = 0
        self._first: float | None = None
        self._again: threading.Timer | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self._number, self._first = number, self._first or now
        if not _in_store(frame) or now - self._first > _PATIENCE_S:
            if self._again is not None:
                self._again.cancel()
                self._again = None
            raise KeyboardInterrupt
        self._repeat()

    def repeats(self, lost: sys.UnraisableHookArgs) -> bool:
        """Let the signal come again if what was lost is its exception; say whether it was."""
        ours = self._number != 0 and issubclass(lost.exc_type, KeyboardInterrupt)
        if ours:
            self._repeat()
        return ours

    def _repeat(self) -> None:
        # One at a time, so that none comes after the run has ended.
        if self._again is None:
            self._again = threading.Timer(_AGAIN_S, self._send)
            self._again.daemon = True
            self._again.start()

    def _send(self) -> None:
        self._again = None
        os.kill(os.getpid(), self._number)


def _in_store(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_STORES):
            return True
        frame = frame.f_back
    return False
