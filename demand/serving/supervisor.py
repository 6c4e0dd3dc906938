"""The process that keeps a model server running: when that dies, it is started again.

``python -m demand.serving.supervisor FOLDER --fd N --model-version V`` starts
:mod:`demand.serving.model_server` on the listening socket that it was handed, and holds
that socket itself. So while a dead model server (SIGKILL, out of memory) is replaced,
its address stays and whoever connects waits, instead of being refused.

It imports next to nothing, so that it is small (about 15 MB) and no choice for a system
that is short of memory.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from demand.errors import EXIT_ERROR, ServingError
from demand.serving.listening import inherited

_MODEL_SERVER = "demand.serving.model_server"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_log = logging.getLogger("demand.supervisor")


@dataclass(frozen=True)
class Patience:
    """How often and how fast a model server is started again.

    Parameters
    ----------
    first_pause_s, longest_pause_s
        The first restart is immediate; before the second in a row the supervisor waits
        for ``first_pause_s``, then twice as long each time, up to ``longest_pause_s``.
    settled_s
        A model server that lived for so long begins a new row.
    first_starts
        A model server that was killed so often before it was ever ready is given up.
    grace_s
        Time it has to finish its requests when the supervisor is told to stop. Longer
        than what it allows itself, shorter than what :func:`demand.serving.processes.end`
        allows the supervisor.
    """

    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    settled_s: float = 60.0
    first_starts: int = 3
    grace_s: float = 12.0

    def pause_after(self, pause_s: float | None, lived_s: float) -> float:
        """Return the pause before the next start.

        Parameters
        ----------
        pause_s
            The one before the last start, None if that was the first.
        lived_s
            How long the model server ran after it.
        """
        if pause_s is None or lived_s >= self.settled_s:
            return 0.0
        return min(max(2 * pause_s, self.first_pause_s), self.longest_pause_s)


class Supervisor:
    """Keeps one model server running.

    Parameters
    ----------
    command
        Starts the model server. It gets ``--ready-fd N`` besides, see :func:`tell_ready`.
    listener
        Where the model server answers; closed when the supervisor is told to stop.
    patience
        See :class:`Patience`.
    """

    def __init__(
        self, command: Sequence[str], listener: socket.socket, patience: Patience | None = None
    ) -> None:
        self._command = command
        self._listener = listener
        self._patience = patience or Patience()
        self._stopping = False
        self._was_ready = False
        self._wakeup = -1

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT; return the exit status.

        That is 0 after a signal. A model server that was never ready is given up: at once
        if it ended by itself, since it told why and would again, and after ``first_starts``
        if something killed it. Then the status is its own, 128 + N if signal N killed it.
        """
        pause: float | None = None
        starts = 0
        with self._signals():
            while True:
                began = time.monotonic()
                status, reason = self._serve()
                if self._stopping:
                    return 0
                lived = time.monotonic() - began
                starts += 1
                end = f"the model server {reason} after {lived:.1f} s"
                killed = status < 0
                if not self._was_ready and not (killed and starts < self._patience.first_starts):
                    _log.error("%s and was never ready: giving up", end)
                    return 128 - status if killed else status
                pause = self._patience.pause_after(pause, lived)
                _log.warning("%s: starting it again%s", end, f" in {pause:g} s" if pause else "")
                if self._stopped_within(pause):
                    return 0

    def _serve(self) -> tuple[int, str]:
        """Run the model server until it ends.

        Return its status, -N if signal N killed it, and that in words.
        """
        try:
            child, ready = self._start()
        except OSError as error:
            # No memory for another process: perhaps why the last one was killed.
            return EXIT_ERROR, f"could not be started ({error.strerror})"
        watched = [ready]
        try:
            while child.poll() is None:
                if self._stopping:
                    self._stop(child)
                    break
                watched = self._heed(watched)
            self._heed(watched, 0.0)  # It may have been ready just before its end.
        finally:
            os.close(ready)
        return child.returncode, _reason(child.returncode)

    def _start(self) -> tuple[subprocess.Popen[bytes], int]:
        """Return the new model server, and what to read to know that it is ready."""
        ready, told = os.pipe()
        try:
            child = subprocess.Popen(
                [*self._command, "--ready-fd", str(told)],
                pass_fds=[self._listener.fileno(), told],
            )
        except OSError:
            os.close(ready)
            raise
        finally:
            os.close(told)
        return child, ready

    def _stop(self, child: subprocess.Popen[bytes]) -> None:
        """Let the model server finish its requests; new ones are refused from now on."""
        child.terminate()
        self._listener.close()
        try:
            child.wait(self._patience.grace_s)
        except subprocess.TimeoutExpired:
            _log.error("the model server did not end within %g s: killed", self._patience.grace_s)
            child.kill()
            child.wait()

    def _stopped_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            self._wait([], left)
        return self._stopping

    def _heed(self, watched: list[int], timeout_s: float | None = None) -> list[int]:
        """Wait, perhaps for the word that the model server is ready; return what to watch on."""
        heard = [each for each in self._wait(watched, timeout_s) if each in watched]
        for descriptor in heard:
            self._was_ready = bool(os.read(descriptor, 1)) or self._was_ready
        return [each for each in watched if each not in heard]

    def _wait(self, descriptors: list[int], timeout_s: float | None = None) -> list[int]:
        """Wait for a signal or for something to read; return which has it."""
        found, _, _ = select.select([self._wakeup, *descriptors], [], [], timeout_s)
        if self._wakeup in found:
            os.read(self._wakeup, 4096)
        return found

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Take note of signals, and let each end a wait.

        Handlers alone would leave a gap: a signal between the look at what it changed and
        the wait. So Python also writes each into a pipe, on which the wait is.
        """

        def stop(*_: object) -> None:
            self._stopping = True

        def look(*_: object) -> None: ...

        self._wakeup, written = os.pipe()
        os.set_blocking(written, False)
        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGCHLD: look}
        fd_before = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        before = {number: signal.signal(number, taken) for number, taken in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(fd_before)
            os.close(written)
            os.close(self._wakeup)


def end_with_supervisor() -> None:
    """Let SIGTERM end this process when the supervisor, its parent, is gone.

    A supervisor that is killed can end nothing itself, and a model server without one
    would serve unnoticed. Only Linux can do this; elsewhere, the next ``demand serve``
    or ``demand stop`` finds and ends what was left.
    """
    if sys.platform != "linux":
        return
    import ctypes  # here, since only the model server needs it

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        _log.warning("cannot ask to be ended with the supervisor: %s", reason)


def tell_ready(descriptor: int) -> None:
    """Tell the supervisor, through the pipe of ``--ready-fd``, that requests are answered.

    Raises
    ------
    ServingError
        There is no supervisor any more: it may have ended before
        :func:`end_with_supervisor` was called.
    """
    try:
        os.write(descriptor, b"!")
    except OSError as error:
        raise ServingError(f"the supervisor is gone: {error.strerror}") from error
    os.close(descriptor)


def _reason(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # real-time signals have no names
        name = f"signal {-status}"
    # What a person who reads the log wants to know, and cannot be seen from here.
    hint = " (by someone, or by the system for want of memory)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep a model server running until SIGTERM; it then finishes its requests."""
    parser = argparse.ArgumentParser(
        prog="demand-supervisor", description="Keep the server of one model running."
    )
    parser.add_argument("folder", help="an MLflow model")
    parser.add_argument("--fd", type=int, required=True, help="a listening socket, inherited")
    parser.add_argument("--model-version", default="")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        listener = inherited(options.fd)
    except ServingError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    command = [sys.executable, "-m", _MODEL_SERVER, options.folder]
    command += ["--fd", str(options.fd), "--model-version", options.model_version]
    with listener:
        return Supervisor(command, listener).run()


if __name__ == "__main__":
    raise SystemExit(main())
