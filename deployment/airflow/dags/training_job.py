"""Runs the training pipeline as a child process: its output line by line, its end for sure.

No Airflow here. The job gets a session of its own, so that a time-out ends all of it:
the job, and what it started. A model server is no part of the job: the pipeline gives
it a session of its own, and it goes on serving.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

GRACE_S = 4.0  # Airflow kills a task 5 s after it asked it to end
PIPE_GRACE_S = 2.0
LINES_KEPT = 50


def training_command(project: Path, data: str | None, config: str | None) -> list[str]:
    """Return the command as an argument list: no shell ever sees ``data`` or ``config``.

    Raises
    ------
    FileNotFoundError
        ``project`` is no set-up project; says what is missing and what to do.
    """
    python = project / ".venv" / "bin" / "python"
    for needed in (project / "run.py", python):
        if not needed.is_file():
            raise FileNotFoundError(
                f"{needed} does not exist: run `make training` in the project once, or name the "
                "project in the Airflow Variable or environment variable AVITO_DEMAND_PROJECT"
            )
    command = [str(python), "run.py", "--pipeline", "training"]
    # The = keeps a value that begins with a dash a value.
    if data:
        command.append(f"--data={data}")
    if config:
        command.append(f"--config={config}")
    return command


def training_environment(project: Path, base: Mapping[str, str]) -> dict[str, str]:
    """Return ``base`` for the job: the project's programs first, nothing of Airflow's.

    Airflow's variables can hold its database's password and its keys.
    """
    foreign = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    kept = {
        name: value
        for name, value in base.items()
        if name not in foreign and not name.lstrip("_").startswith("AIRFLOW")
    }
    kept["PATH"] = f"{project / '.venv' / 'bin'}{os.pathsep}{base.get('PATH', os.defpath)}"
    kept["PYTHONUNBUFFERED"] = "1"
    return kept


class TrainingJob:
    """One run of a command.

    Parameters
    ----------
    command
        Program and arguments.
    folder
        Working directory.
    environment
        All environment variables of the job.
    grace_s
        Seconds between asking the job to end and killing it.
    """

    def __init__(
        self,
        command: list[str],
        folder: Path,
        environment: Mapping[str, str],
        grace_s: float = GRACE_S,
    ) -> None:
        self.command = command
        self.folder = folder
        self.environment = environment
        self.grace_s = grace_s
        self.last_lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._process: subprocess.Popen[str] | None = None

    def run(self, show: Callable[[str], object]) -> int:
        """Run to the end and return the exit status (minus the signal, if one ended it).

        ``show`` gets each line of output as it comes, in the calling thread. An
        exception here (a time-out is one) ends the whole job before it goes on.
        """
        process = self._process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        reader = threading.Thread(target=_read_lines, args=(process, lines), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                self._show_one(lines, show, wait_s=0.2)
            # A server that the job left behind may hold the pipe open: no waiting for its end.
            reader.join(PIPE_GRACE_S)
            while not lines.empty():
                self._show_one(lines, show, wait_s=0.0)
        finally:
            if process.poll() is None:
                self.stop()
        return process.returncode

    def stop(self) -> None:
        """End the job and what it started: asked first, killed after the grace."""
        process = self._process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not _signal_group(process.pid, number):
                return
            deadline = time.monotonic() + self.grace_s
            while time.monotonic() < deadline:
                process.poll()
                if not _signal_group(process.pid, 0):
                    return
                time.sleep(0.05)

    def _show_one(
        self, lines: queue.SimpleQueue[str], show: Callable[[str], object], *, wait_s: float
    ) -> None:
        """Show the next line, if one comes within ``wait_s`` seconds."""
        try:
            line = lines.get(timeout=wait_s) if wait_s else lines.get_nowait()
        except queue.Empty:
            return
        self.last_lines.append(line)
        show(line)


def _read_lines(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    """Move the job's output into ``lines`` until the pipe closes."""
    if process.stdout is not None:
        for line in process.stdout:
            lines.put(line.rstrip("\n"))


def _signal_group(group: int, number: int) -> bool:
    """Signal a process group; False when nothing of it is left."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a dead group
        return False
    return True
