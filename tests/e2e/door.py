"""The pipelines' door in processes forked from one that has everything imported.

Imports take a run eight of its ten seconds; here they are paid once for all the runs
that are to be refused or interrupted. Each run is still a process of its own, with its
own process group and store, and can be killed.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from demand.workspace.workspace import PROJECT_ROOT
from tests.e2e.installation import RUN_S, Installation

CANNOT_MOUNT = 77
SMALL_DISK_BYTES = 32 * 1024
# Flags of unshare(2).
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000


def _enter(
    argv: list[str],
    environment: dict[str, str],
    output: Path,
    file_size_max: int | None,
    small_disk: Path | None,
) -> None:
    """Be ``python run.py ARGV``, writing to ``output``."""
    os.setsid()
    # Whatever started the tests in the background may have had Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(PROJECT_ROOT)
    os.environ.clear()
    os.environ.update(environment)
    with output.open("wb") as file:
        os.dup2(file.fileno(), sys.__stdout__.fileno())
        os.dup2(file.fileno(), sys.__stderr__.fileno())
    import run

    _forget_stores()
    if file_size_max is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size_max, resource.RLIM_INFINITY))
    if small_disk is not None:
        _mount_small_disk(small_disk)
    sys.exit(run.main(argv))


def _forget_stores() -> None:
    """Let ZenML read the environment anew: what was imported belongs to no installation."""
    from zenml.client import Client
    from zenml.config.global_config import GlobalConfiguration

    # There is no public way.
    GlobalConfiguration._reset_instance()  # noqa: SLF001
    Client._reset_instance()  # noqa: SLF001


def _make_stores(environment: dict[str, str]) -> None:
    """Create the tables of ZenML and MLflow in the installation of an environment."""
    os.environ.clear()
    os.environ.update(environment)
    from demand.registry.tracking import mlflow_client
    from orchestration.runs import ensure_stack

    _forget_stores()
    ensure_stack()
    mlflow_client()


def _mount_small_disk(folder: Path) -> None:
    """Make ``folder`` a disk of its own that only this process sees, empty and soon full."""
    libc = ctypes.CDLL(None)
    user, group = os.getuid(), os.getgid()
    if not sys.platform.startswith("linux") or libc.unshare(_NEW_USER | _NEW_MOUNTS):
        os._exit(CANNOT_MOUNT)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    if libc.mount(b"none", bytes(folder), b"tmpfs", 0, f"size={SMALL_DISK_BYTES}".encode()):
        os._exit(CANNOT_MOUNT)


@dataclass
class Run:
    """A run of a pipeline; what it prints is in ``output``."""

    process: ForkServerProcess
    output: Path

    def wait(self) -> int:
        """Return the exit status, or minus the signal that ended it."""
        self.process.join(RUN_S)
        assert self.process.exitcode is not None, f"still running: {self.printed}"
        return self.process.exitcode

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    @property
    def printed(self) -> str:
        return self.output.read_text(encoding="utf-8")

    @property
    def last_line(self) -> str:
        return self.printed.splitlines()[-1]


class Door:
    """Starts runs; ``folder`` gets what they print."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.e2e.imported"])
        # ZenML opens its store when it is imported.
        before = dict(os.environ)
        os.environ.update(ZENML_CONFIG_PATH=str(folder / "zenml"), OMP_NUM_THREADS="1")
        try:
            forkserver.ensure_running()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def make_stores(self, installation: Installation) -> None:
        """Create an installation's tables, as its first run would."""
        process = self._context.Process(target=_make_stores, args=(installation.environment,))
        process.start()
        process.join(RUN_S)
        assert process.exitcode == 0

    def start(
        self,
        installation: Installation,
        *arguments: str,
        data: Path | None = None,
        config: Path | None = None,
        file_size_max: int | None = None,
        small_disk: Path | None = None,
    ) -> Run:
        """Start a training run.

        Parameters are those of :meth:`start_pipeline`.
        """
        command = installation.training_command(*arguments, data=data, config=config)
        return self.start_pipeline(
            installation, command, file_size_max=file_size_max, small_disk=small_disk
        )

    def start_pipeline(
        self,
        installation: Installation,
        command: list[str],
        *,
        file_size_max: int | None = None,
        small_disk: Path | None = None,
    ) -> Run:
        """Start ``python run.py …``.

        No file it writes may grow beyond ``file_size_max`` bytes, and ``small_disk`` is a
        folder that has no room.
        """
        self._count += 1
        output = self._folder / f"run-{self._count}.txt"
        process = self._context.Process(
            target=_enter,
            args=(command[2:], installation.environment, output, file_size_max, small_disk),
        )
        process.start()
        return Run(process, output)
