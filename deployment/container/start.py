"""What a container of this image runs first; see README.md.

- ``start.py model-server [OPTION ...]`` serves the model in ``/model`` on port 8080;
- ``start.py demand COMMAND ...`` runs one of the ``demand`` commands, such as ``demand api``;
- ``start.py healthy URL`` says with its exit status whether URL answers 200.

numba reads machine code only from a folder that it may also write to, and a container's
root may be read-only: so what the build compiled is copied below ``/tmp``. Where that is not
possible numba compiles anew, which takes some seconds.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import urllib.request
from pathlib import Path

COMPILED = Path("/opt/demand/numba-cache")
MODEL = Path("/model")
EVERYWHERE, PORT = "0.0.0.0", "8080"  # noqa: S104  what is published is the engine's to say
ANSWER_S = 4.0


def command(arguments: list[str]) -> list[str]:
    """Return the command that these words mean.

    Raises
    ------
    SystemExit
        None of those above.
    """
    match arguments:
        case ["model-server", *options]:
            server = ["-m", "demand.serving.model_server", str(MODEL)]
            # Of two equal options the later one counts.
            defaults = ["--host", EVERYWHERE, "--port", PORT]
            return [sys.executable, *server, *defaults, "--model-version", version(), *options]
        case ["demand", "api", *options]:
            named = ["--model-version", version()] if version() else []
            return [sys.executable, "-m", "cli.main", "api", *named, *options]
        case ["demand", *options]:
            return [sys.executable, "-m", "cli.main", *options]
    said = " ".join(arguments) or "nothing"
    raise SystemExit(f"start.py: not {said!r}, but one of: model-server, demand, healthy URL")


def version() -> str:
    """Return the registry's number of the model that is served, empty where unknown."""
    try:
        return (MODEL / "model_version").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def use_compiled() -> None:
    """Let numba find the machine code that the build left, if this image has some."""
    if not COMPILED.is_dir():
        return
    try:
        folder = Path(tempfile.gettempdir()) / "demand-numba"
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copytree(COMPILED, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    except OSError as error:
        sys.stderr.write(f"start.py: compiling anew, {error}: give the container a tmpfs at /tmp\n")
        return
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


def is_healthy(url: str) -> bool:
    """Say whether ``url``, on this machine and so without a proxy, answers 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def main(arguments: list[str]) -> None:
    """Become the process that was asked for, so that signals reach it."""
    match arguments:
        case ["healthy", url]:
            raise SystemExit(0 if is_healthy(url) else 1)
    words = command(arguments)
    use_compiled()
    os.execv(words[0], words)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
