"""Debian's PostgreSQL server, on a port of loopback and in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demand.serving.http.server import free_port

PASSWORD = "s3cret"


class Postgresql:
    """A server that can be stopped and started."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder, self.port = programs, folder, free_port(25432)
        self.url = f"postgresql://demand:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def initialise(self) -> None:
        (self._folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self._folder, self._folder / "password"):
                shutil.chown(path, "postgres")
        password = ["--auth=scram-sha-256", f"--pwfile={self._folder}/password"]
        self._run("initdb", *password, "--username=demand", "--no-sync")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -F"
        self._run("pg_ctl", "start", "--wait", f"--options={options}", "--log=/dev/null")

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def _run(self, program: str, *options: str) -> None:
        # Root may not run it.
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [str(self._programs / program), f"--pgdata={self._folder}/data", *options]
        subprocess.run([*user, *command], check=True, cwd="/", stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def postgresql() -> Iterator[Postgresql]:
    """Run a server, or skip the test where PostgreSQL is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL server: apt-get install postgresql")
    # Not pytest's folder, which is closed to the server's user.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        server = Postgresql(programs[-1], Path(folder))
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):  # a test has stopped it
                server.stop()
