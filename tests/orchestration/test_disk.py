"""What runs leave on the disk, in a real store of ZenML that others use, too."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.own_store import run_program

PIPELINES = """
import os, signal, tempfile
from pathlib import Path
from typing import Annotated
from zenml import pipeline, step
from zenml.client import Client
from zenml.materializers.base_materializer import BaseMaterializer
from orchestration.disk import cached_runs, trim_cache
from orchestration.runs import run_named, run_pipeline

SIZE = 200_000

@step
def ingest() -> Annotated[str, "ads"]:
    return "x" * SIZE

@step
def train(ads: str, seed: int) -> Annotated[str, "model"]:
    return "y" * SIZE

@step(enable_cache=False)
def clear() -> None:
    trim_cache(0)

@pipeline(name="training", tags=["demand"])
def training(seed: int) -> None:
    train(ingest(), seed)

@pipeline(name="tuning", tags=["demand"])
def cleared() -> None:
    ads = ingest()
    clear(after=["ingest"])
    train(ads, 9, after=["clear"])

@step
def other() -> Annotated[str, "ads"]:
    return "z" * SIZE

@pipeline(name="foreign")
def foreign() -> None:
    other()

class Killed(BaseMaterializer):
    ASSOCIATED_TYPES = (str,)

    def save(self, data: str) -> None:
        (Path(self.uri) / "half").write_text(data)
        os.kill(os.getpid(), signal.SIGKILL)

@step(output_materializers=Killed)
def killed() -> Annotated[str, "ads"]:
    Path(tempfile.mkdtemp(), "ads.parquet").touch()
    return "x"

@pipeline(name="training", tags=["demand"])
def interrupted() -> None:
    killed()
"""

KILLED = """
from pipelines_made import *
run_pipeline(interrupted, ())
"""

SCENARIO = """
import json
from concurrent.futures import ThreadPoolExecutor
from pipelines_made import *

told = {}
mine = Path(Client().active_stack.artifact_store.path)
home = Path(os.environ["DEMAND_HOME"])
(dead,) = Client().list_pipeline_runs().items

def left():
    return [str(path) for path in (*mine.rglob("half"), *home.rglob("ads.parquet"))]

def run(pipeline, *arguments, **options):
    made = run_pipeline(pipeline, arguments, **options)
    return made.name, {name: str(step.status) for name, step in made.steps.items()}

def sizes():
    return [(run.name, run.size_bytes // SIZE) for run in cached_runs()]

told["killed"] = [len(left()), str(dead.status)]
others = foreign()
names = [run(training, seed)[0] for seed in (1, 2, 3)]
told["cleaned"] = [left(), str(run_named(dead.name).status)]
told["left in home"] = [str(path.name) for path in (home / "runs").iterdir()]
told["names"], told["sizes"] = names, sizes()

told["fits"] = trim_cache(1)
told["freed"] = trim_cache(2.5 * SIZE / 1e9) // SIZE
told["trimmed"] = sizes()
told["again"] = run(training, 1)[1]

trim_cache(0, kept=names[-1])
told["kept by name"] = dict(sizes())[names[-1]], cached_runs(names[-1])[0].size_bytes // SIZE
told["after a run"] = run(training, 4, cache_gb=0.0)[0]
told["only the last"] = sizes()

delete = Client.delete_artifact_version
def failing(*_, **__):
    raise KeyboardInterrupt
Client.delete_artifact_version = failing
try:
    trim_cache(0)
except KeyboardInterrupt:
    pass
Client.delete_artifact_version = delete
told["after Ctrl-C"] = run(training, 4)[1]

batch = home / "batch" / "0123abcd"
batch.mkdir(parents=True)
(batch / "answers.csv").write_text("x" * SIZE)
told["interrupted"] = [run.name for run in cached_runs() if run.size_bytes == SIZE]

told["size"] = sum(run.size_bytes for run in cached_runs())
with ThreadPoolExecutor(2) as pool:
    told["two at once"] = sorted(pool.map(trim_cache, (0, 0)))
told["empty"], told["nothing to do"] = sizes(), trim_cache(0)
told["interrupted is left"] = batch.exists()
told["cleared by a step of itself"] = run(cleared)[1]
told["foreign"] = len(others.steps["other"].outputs["ads"][0].load())
print(json.dumps(told))
"""


def started(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    (folder / "pipelines_made.py").write_text(PIPELINES, encoding="utf-8")
    return run_program(folder, program)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    folder = tmp_path_factory.mktemp("installation")
    assert started(folder, KILLED).returncode == -signal.SIGKILL
    ended = started(folder, SCENARIO)
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.fixture(scope="module")
def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return json.loads(done.stdout.splitlines()[-1])


def test_the_next_run_removes_what_a_killed_one_left(told: dict[str, Any]) -> None:
    assert told["killed"] == [2, "running"]
    assert told["cleaned"] == [[], "failed"]
    assert told["left in home"] == []


def test_runs_are_listed_newest_first_which_has_what_is_shared(told: dict[str, Any]) -> None:
    first, second, third = told["names"]
    assert told["sizes"] == [[third, 2], [second, 1], [first, 1]]


def test_the_oldest_go_until_the_rest_fits(told: dict[str, Any]) -> None:
    assert told["fits"] == 0
    assert told["freed"] == 2
    assert told["trimmed"] == [[told["names"][2], 2]]


def test_a_step_whose_outputs_were_removed_runs_again_and_no_other(
    told: dict[str, Any], done: subprocess.CompletedProcess[str]
) -> None:
    assert told["again"] == {"ingest": "cached", "train": "completed"}
    assert "was deleted" not in done.stderr


def test_the_run_that_is_named_stays(told: dict[str, Any]) -> None:
    # The newer run that was removed has its share of what both have.
    assert told["kept by name"] == [1, 2]


def test_a_run_that_ended_well_removes_others_but_nothing_of_itself(
    told: dict[str, Any], done: subprocess.CompletedProcess[str]
) -> None:
    assert told["only the last"] == [[told["after a run"], 2]]
    assert "outputs of old runs are removed: 0.00 GB beyond data.cache_gb" in done.stderr


def test_a_removal_that_is_stopped_leaves_nothing_in_the_cache(told: dict[str, Any]) -> None:
    assert told["after Ctrl-C"] == {"ingest": "completed", "train": "completed"}


def test_of_two_at_once_the_second_finds_nothing_to_do(told: dict[str, Any]) -> None:
    assert told["two at once"] == [0, told["size"]]
    assert told["size"] > 0
    assert (told["empty"], told["nothing to do"]) == ([], 0)


def test_answers_of_an_interrupted_batch_are_listed_and_removed(told: dict[str, Any]) -> None:
    assert told["interrupted"] == ["interrupted-batch-inference-0123abcd"]
    assert not told["interrupted is left"]


def test_what_a_run_that_goes_on_has_stays(told: dict[str, Any]) -> None:
    steps = {"ingest": "completed", "clear": "completed", "train": "completed"}
    assert told["cleared by a step of itself"] == steps


def test_runs_of_others_in_the_same_store_are_left_alone(told: dict[str, Any]) -> None:
    assert told["foreign"] == 200_000
