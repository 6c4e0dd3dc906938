"""Training runs that end before their time, and what comes after them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

import psutil
import pytest

from demand.demo import write_demo
from demand.serving.http.server import LOOPBACK
from tests.e2e.door import CANNOT_MOUNT, Door, Run
from tests.e2e.installation import Installation, answer, wait_for
from tests.full_disk import small_disk

pytestmark = pytest.mark.e2e

WAIT_S = 120
# In their order: each of these steps writes more than its own artifact, except the first one,
# before which there is none. Ctrl-C is heard in the same place whatever runs: one step that
# holds a pool of threads, and one that starts a server.
ENDS = [
    ("ingest", signal.SIGKILL),
    ("train", signal.SIGKILL),
    ("train", signal.SIGINT),
    ("package", signal.SIGKILL),
    ("promote", signal.SIGKILL),
    ("deploy", signal.SIGKILL),
    ("deploy", signal.SIGINT),
]


@pytest.fixture(scope="module")
def other_ads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ads that make another model than the one that serves."""
    path = tmp_path_factory.mktemp("other") / "other.csv"
    write_demo(path, 1500, 8)
    return path


def started(step: str, installation: Installation, door: Door, ads: Path, *arguments: str) -> Run:
    """Start a run and wait until ``step`` is running in it."""
    before = installation.latest_run()
    run = door.start(installation, *arguments, data=ads)
    wait_for(
        lambda: installation.running_step(before) == step or not run.running,
        WAIT_S,
        f"the step {step}",
    )
    assert run.running, run.printed
    return run


def endpoint(installation: Installation) -> str:
    return str(installation.metrics()["endpoint"])


@pytest.fixture(scope="module")
def served(serving: Installation) -> tuple[str, float]:
    """Return the endpoint of version 1, and its answer."""
    url = endpoint(serving)
    return url, answer(url)


# What one run finished, the next takes from ZenML's cache: so a run that is ended in one
# step also shows that the step before can be run again after it was ended there.
@pytest.mark.parametrize(("step", "number"), ENDS)
def test_a_run_that_is_ended_in_a_step_leaves_what_serves(
    step: str,
    number: signal.Signals,
    serving: Installation,
    door: Door,
    other_ads: Path,
    served: tuple[str, float],
) -> None:
    run = started(step, serving, door, other_ads)
    run.send(number)
    status = run.wait()
    assert answer(served[0]) == served[1]
    if number is signal.SIGKILL:
        assert status == -signal.SIGKILL
    else:
        assert status == 130, run.printed
        assert run.last_line == "stopped by a signal; what was serving still serves"
        assert "Traceback" not in run.printed


def test_after_all_of_these_a_run_serves_though_a_second_one_is_tried_meanwhile(
    serving: Installation, door: Door, other_ads: Path, served: tuple[str, float]
) -> None:
    first = started("promote", serving, door, other_ads)
    # It is not over before the second has begun.
    first.send(signal.SIGSTOP)
    second = door.start(serving)
    assert second.wait() == 1
    (line,) = second.printed.splitlines()
    assert line.startswith(f"error: process {first.process.pid} (training) is using ")
    first.send(signal.SIGCONT)
    assert first.wait() == 0, first.printed
    told = serving.status()
    assert (told["champion"], told["version"], told["problem"]) == ("2", "2", None)
    assert answer(told["endpoint"]) != served[1]


def test_nothing_that_was_started_for_an_ended_run_is_left(serving: Installation) -> None:
    found = {
        process.pid: process.info["ppid"]
        for process in psutil.process_iter(["cmdline", "ppid"])
        if any(str(serving.home / "serving") in part for part in process.info["cmdline"] or [])
    }
    # A master, and the workers that it has started.
    master = serving.status()["pid"]
    assert sorted(found.values()) == sorted([found[master], master, master])


def artifact_store(installation: Installation) -> Path:
    stores = installation.zenml_store / "local_stores"
    (artifacts,) = [path for path in stores.iterdir() if path.name != "default_zen_store"]
    return artifacts


class TestADiskThatIsFull:
    @pytest.fixture(
        params=[
            *("reports", "ZenML's artifacts", "MLflow's artifacts", "served models"),
            "temporary files",
        ]
    )
    def full(self, request: pytest.FixtureRequest, serving: Installation) -> Path:
        return {
            "reports": serving.reports,
            "ZenML's artifacts": artifact_store(serving),
            "temporary files": serving.home / "runs",
            "MLflow's artifacts": serving.home / "artifacts",
            "served models": serving.home / "serving",
        }[request.param]

    def test_is_told_in_one_message_and_what_serves_is_left(
        self, full: Path, serving: Installation, door: Door
    ) -> None:
        before = serving.status()
        asked = answer(before["endpoint"])
        run = door.start(serving, "--quiet", "--no-cache", small_disk=full)
        if run.wait() == CANNOT_MOUNT:
            pytest.skip("this system mounts no disk for a user")
        assert run.process.exitcode == 1, run.printed
        assert run.printed.startswith("error: cannot write")
        assert "No space left on device; free some space (`demand cache --clear`" in run.printed
        assert run.printed.count("\n") == 1, run.printed
        after = serving.status()
        assert (after["version"], after["endpoint"]) == (before["version"], before["endpoint"])
        assert answer(after["endpoint"]) == asked

    def test_has_no_half_of_the_ads_and_the_next_run_works(
        self, serving: Installation, door: Door
    ) -> None:
        with small_disk(artifact_store(serving), 2**16) as disk:
            run = door.start(serving, "--quiet", "--no-cache")
            assert run.wait() == 1, run.printed
            assert re.match(r"error: cannot write \S+/ingest/ads/\S+/ads.parquet: ", run.printed)
            assert [path for path in (disk / "ingest").rglob("*") if path.is_file()] == []
        assert door.start(serving, "--no-cache", "--no-deploy").wait() == 0
        assert list((serving.home / "runs").iterdir()) == []

    def test_is_told_where_a_database_cannot_grow(self, serving: Installation, door: Door) -> None:
        before = serving.status()
        run = door.start(serving, "--quiet", "--no-cache", file_size_max=100_000)
        assert run.wait() == 1
        assert run.printed.startswith("error: cannot write a database")
        assert run.printed.count("\n") == 1, run.printed
        assert serving.status() == before


def test_a_dead_server_is_told_and_brought_back_by_the_next_training_past_a_taken_port(
    serving: Installation, door: Door, other_ads: Path
) -> None:
    before = serving.status()
    os.kill(before["pid"], signal.SIGKILL)
    # Its workers see a moment later that they are alone.
    wait_for(lambda: not serving.status()["healthy"], WAIT_S, "the end of the server")
    dead = serving.demand("status", "--json")
    told = json.loads(dead.stdout)
    assert (dead.returncode, told["healthy"]) == (1, False)
    assert "does not answer: run `demand serve`" in told["problem"]

    with socket.create_server((LOOPBACK, serving.port)):
        run = door.start(serving, data=other_ads)
        assert run.wait() == 0, run.printed
        after = serving.status()
    assert (after["version"], after["problem"]) == (before["version"], None)
    assert after["pid"] != before["pid"]
    port = int(after["endpoint"].split(":")[2].split("/")[0])
    assert port > serving.port
    assert f"endpoint: {after['endpoint']}" in run.printed
    assert serving.metrics()["endpoint"] == after["endpoint"]
