"""Ctrl-C comes through, but not while a store is at work."""

from __future__ import annotations

import os
import signal
import sys
import time
import types

import pytest

from pipelines.interrupts import interrupted_between_transactions


def in_module(name: str, source: str) -> types.ModuleType:
    """Make a module of that name."""
    module = types.ModuleType(name)
    exec(source, module.__dict__)  # noqa: S102
    return module


STORE = in_module(
    "zenml.zen_stores.standin",
    "def transact(act, done):\n    act()\n    act()\n    done.append(True)\n",
)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def wait_for_it() -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pass


def test_ctrl_c_comes_at_once_outside_of_a_store() -> None:
    with pytest.raises(KeyboardInterrupt), interrupted_between_transactions():
        press_ctrl_c()


def test_ctrl_c_waits_for_the_end_of_a_transaction() -> None:
    done: list[bool] = []

    def transact_and_wait() -> None:
        STORE.transact(press_ctrl_c, done)
        wait_for_it()

    with pytest.raises(KeyboardInterrupt), interrupted_between_transactions():
        transact_and_wait()
    assert done == [True]


class Fleeting:
    """Presses Ctrl-C where an exception is only printed, as in a library's callback."""

    def __del__(self) -> None:
        press_ctrl_c()


def test_ctrl_c_comes_again_where_its_exception_was_lost(capsys: pytest.CaptureFixture) -> None:
    def lose_and_wait() -> None:
        Fleeting()
        wait_for_it()

    with pytest.raises(KeyboardInterrupt), interrupted_between_transactions():
        lose_and_wait()
    assert capsys.readouterr().err == ""


def test_other_exceptions_that_are_lost_are_told_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))

    class Broken:
        def __del__(self) -> None:
            raise ValueError

    with interrupted_between_transactions():
        Broken()
    assert told == [ValueError]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_handlers_are_as_before_afterwards(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interrupted_between_transactions():
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupted_between_transactions():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_zenml_registers_no_handler_of_its_own_meanwhile() -> None:
    from zenml.orchestrators import signal_handler

    with interrupted_between_transactions():
        assert signal_handler._SIGNALS == ()
    assert signal.SIGINT in signal_handler._SIGNALS
