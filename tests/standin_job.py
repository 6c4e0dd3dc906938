"""A stand-in for a set-up project: its ``run.py`` ends as its configuration says.

For the tests of what runs the training pipeline on a schedule: they need exit
statuses, time-outs and left-behind processes on demand. It trains nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

STAND_IN = '''"""STAND-IN for the project's run.py; --config holds what it does."""
import os, signal, subprocess, sys, time

arguments = sys.argv[1:]
print("arguments:", arguments, "объявление", flush=True)
with open("tries.log", "a") as log:
    log.write(repr(arguments) + "\\n")
with open("environment.log", "w") as log:
    log.write("\\n".join(os.environ))
config = next((a.partition("=")[2] for a in arguments if a.startswith("--config=")), "0")
if config == "2":
    print("stopped: the rmse gate said no: 0.2201 is not below 0.01")
    print("timings: none")
if config == "1":
    quoted = "  error: a line of another log"
    print(f"error: the model server ended at its start\\n{quoted}\\nDEMAND_DEBUG=1 shows where")
if config == "64":
    print("usage: run.py [-h]\\nrun.py: unrecognized arguments\\n\\n")
if config == "server":
    server = subprocess.Popen(
        ["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with open("pids.log", "w") as log:
        log.write(str(server.pid))
    config = "0"
if config in ("endless", "stubborn"):
    if config == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"])
    with open("pids.log", "w") as log:
        log.write(f"{os.getpid()} {child.pid}")
    print("started", flush=True)
    while True:
        time.sleep(0.1)
sys.exit(int(config))
'''


def standin_project(folder: Path) -> Path:
    """Make ``folder`` look like a set-up project with the stand-in as its ``run.py``."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (folder / "run.py").write_text(STAND_IN, encoding="utf-8")
    return folder


def tries(project: Path) -> list[str]:
    """Return the arguments of each run of the stand-in, in order."""
    log = project / "tries.log"
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def pids(project: Path) -> list[int]:
    """Return the process ids of an endless stand-in and its child, or of the server it left."""
    log = project / "pids.log"
    return [int(pid) for pid in log.read_text().split()] if log.exists() else []


def is_running(pid: int) -> bool:
    """Return whether a process works (a zombie does not)."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_for(condition: Callable[[], object], within_s: float, what: str) -> None:
    """Wait until ``condition`` holds; fail with ``what`` if it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.1)
