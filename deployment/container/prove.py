"""Answer a model's own sample ads and compare with what it answered when it was trained.

``prove.py FOLDER`` starts a server of the MLflow model for it; ``prove.py FOLDER --url URL``
asks one that runs. Exit status 0: the answers agree to 1e-6.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

TOLERANCE = 1e-6
START_S, ANSWER_S = 120.0, 60.0
PORT = 8080


@contextlib.contextmanager
def started(folder: Path) -> Iterator[str]:
    """Start a model server, wait until it answers, and yield its URL."""
    server = [sys.executable, "-m", "demand.serving.model_server", str(folder)]
    with subprocess.Popen([*server, "--port", str(PORT)]) as process:
        try:
            url = f"http://127.0.0.1:{PORT}"
            wait_until_ready(url, lambda: process.poll() is None)
            yield url
        finally:
            process.terminate()


@contextlib.contextmanager
def running(url: str) -> Iterator[str]:
    """Wait until somebody else's server answers, and yield its URL."""
    wait_until_ready(url, lambda: True)
    yield url


def wait_until_ready(url: str, lives: Callable[[], bool]) -> None:
    """Return when the server answers.

    Raises
    ------
    OSError
        It ended, or did not answer within two minutes.
    """
    last = time.monotonic() + START_S
    while True:
        try:
            ask(f"{url}/ping")
        except OSError:
            if time.monotonic() > last or not lives():
                raise
            time.sleep(0.05)
        else:
            return


def ask(url: str, body: object = None) -> bytes:
    """Return what ``url`` answers; it is on this machine, so no proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310  the caller's own address
        url, data, {"Content-Type": "application/json"}
    )
    with opener.open(request, timeout=ANSWER_S) as answer:
        return bytes(answer.read())


def compare(folder: Path, url: str) -> float:
    """Return the largest difference to the answers that travel with the model.

    Raises
    ------
    ValueError
        There are more or fewer answers than ads.
    """
    samples = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    answer = ask(f"{url}/invocations", {"dataframe_records": samples["ads"]})
    given = json.loads(answer)["predictions"]
    pairs = zip(given, samples["predictions"], strict=True)
    return float(max(abs(answer - expected) for answer, expected in pairs))


def main() -> int:
    """Ask, compare, print."""
    parser = argparse.ArgumentParser(description="Compare a model server with its model.")
    parser.add_argument("folder", type=Path, help="the MLflow model")
    parser.add_argument("--url", help="of a server that runs")
    parser.add_argument("--since", type=float, help="when it was started, in seconds of the epoch")
    options = parser.parse_args()
    begun = options.since or time.time()
    try:
        with running(options.url) if options.url else started(options.folder) as url:
            say(f"seconds from start to /ping: {time.time() - begun:.1f}")
            asked = time.time()
            worst = compare(options.folder, url)
            say(f"milliseconds of the first answer: {1000 * (time.time() - asked):.0f}")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: the model server does not answer: {error}\n")
        return 1
    say(f"largest difference to the Predictor: {worst:.1e}")
    # Written so that NaN fails.
    return 0 if worst <= TOLERANCE else 1


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
