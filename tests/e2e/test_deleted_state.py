"""The same training after somebody deleted what it counts on, with the tools made for that.

The tests follow one installation through its life, in the order in which they stand.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from demand.data.versioning import file_md5
from demand.registry.tracking import EXPERIMENT, mlflow_client, tracking_uri
from demand.workspace.workspace import Workspace
from tests.e2e.door import Door, Run
from tests.e2e.installation import Installation

pytestmark = pytest.mark.e2e

Train = Callable[..., Run]


@pytest.fixture(scope="module")
def ads(demo_ads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a link into DVC's cache, as ``cache.type symlink`` makes them; not tracked yet."""
    folder = tmp_path_factory.mktemp("tracked")
    md5 = file_md5(demo_ads)
    kept = folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    kept.parent.mkdir(parents=True)
    shutil.copy(demo_ads, kept)
    (folder / "mine.csv").symlink_to(kept)
    return folder / "mine.csv"


@pytest.fixture(scope="module")
def train(installation: Installation, door: Door, ads: Path) -> Train:
    def start(*arguments: str, data: Path = ads, status: int = 0) -> Run:
        run = door.start(installation, "--no-deploy", *arguments, data=data)
        assert run.wait() == status, run.printed
        return run

    return start


def cached(installation: Installation) -> set[str]:
    rows = json.loads((installation.reports / "timings.json").read_text(encoding="utf-8"))
    return {row["part"] for row in rows if row["cached"]}


CACHED = {
    *("ingest", "validate", "split", "baselines", "build_features", "train", "check"),
    *("refit", "package"),
}


@pytest.fixture(scope="module")
def first(installation: Installation, train: Train) -> dict[str, Any]:
    train()
    return installation.metrics()


@pytest.fixture(scope="module")
def champion_compared(first: dict[str, Any], train: Train) -> None:
    """Train again, so that the comparison with the new champion is in the cache, too."""
    train()


class TestFiguresFromTheCache:
    def test_a_link_has_its_own_name_and_no_version_yet(self, first: dict[str, Any]) -> None:
        assert (first["data_file"], first["dvc_md5"]) == ("mine.csv", "")

    @pytest.mark.usefixtures("champion_compared")
    def test_have_the_lineage_of_the_run_that_shows_them(
        self, first: dict[str, Any], installation: Installation, train: Train, ads: Path
    ) -> None:
        text = f"outs:\n- md5: {first['data_md5']}\n  path: {ads.name}\n"
        ads.with_name(f"{ads.name}.dvc").write_text(text, encoding="utf-8")
        train()
        assert cached(installation) == CACHED | {"evaluate"}
        assert installation.metrics()["dvc_md5"] == first["data_md5"]
        assert installation.metrics()["rmse"] == first["rmse"]


def run_deleted(installation: Installation) -> None:
    workspace = Workspace(installation.home)
    client = mlflow_client(workspace)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    for run in client.search_runs([experiment.experiment_id]):
        client.delete_run(run.info.run_id)


def run_removed(installation: Installation) -> None:
    run_deleted(installation)
    uri = tracking_uri(Workspace(installation.home))
    done = installation.run(["mlflow", "gc", "--backend-store-uri", uri], MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr


def artifacts(installation: Installation, step: str) -> list[Path]:
    found = installation.zenml_store.glob(f"local_stores/*/{step}/*/*")
    return [path for path in found if path.is_dir()]


def parts_removed(installation: Installation) -> None:
    """Remove the files, but leave their folders."""
    for step in ("ingest", "train", "evaluate"):
        for folder in artifacts(installation, step):
            for path in [path for path in folder.rglob("*") if path.is_file()]:
                path.unlink()


def reports_removed(installation: Installation) -> None:
    for step in ("validate", "check"):
        for folder in artifacts(installation, step):
            shutil.rmtree(folder)


@pytest.mark.usefixtures("champion_compared")
class TestTheSameTrainingSucceeds:
    @pytest.mark.parametrize(
        ("delete", "again"),
        [
            ((run_deleted, reports_removed), {"train", "package", "validate", "check"}),
            ((run_removed, parts_removed), {"train", "package", "ingest"}),
        ],
    )
    def test_and_what_is_gone_is_made_anew(
        self,
        installation: Installation,
        train: Train,
        delete: tuple[Callable[[Installation], None], ...],
        again: set[str],
    ) -> None:
        before = {
            path.relative_to(installation.reports) for path in installation.reports.rglob("*")
        }
        for each in delete:
            each(installation)

        run = train()

        assert "was deleted: the steps run again" in run.printed
        assert not cached(installation) & again
        there = {path.relative_to(installation.reports) for path in installation.reports.rglob("*")}
        assert there == before
        assert "again" not in train().printed
        assert cached(installation) >= CACHED


@pytest.mark.usefixtures("champion_compared")
def test_the_day_of_a_model_is_that_of_its_fit(installation: Installation, train: Train) -> None:
    for folder in artifacts(installation, "refit"):
        for path in folder.rglob("*.json"):
            told = json.loads(path.read_text(encoding="utf-8"))
            if "trained" in told:
                path.write_text(json.dumps(told | {"trained": "2020-02-02"}), encoding="utf-8")
    for folder in artifacts(installation, "package"):
        shutil.rmtree(folder)

    train()

    assert "refit" in cached(installation)
    card = json.loads((installation.reports / "card.json").read_text(encoding="utf-8"))
    assert card["trained"] == "2020-02-02"


@pytest.mark.usefixtures("first")
class TestADeletedExperiment:
    def test_is_told_with_the_command_that_restores_it(
        self, installation: Installation, train: Train
    ) -> None:
        client = mlflow_client(Workspace(installation.home))
        experiment = client.get_experiment_by_name(EXPERIMENT)
        client.delete_experiment(experiment.experiment_id)

        (line,) = train("--quiet", status=1).printed.splitlines()

        command = re.search(r"MLFLOW_TRACKING_URI=\S+ mlflow experiments restore .*", line)
        assert line.startswith("error: the experiment demand-training was deleted in MLflow")
        assert command is not None
        restored = subprocess.run(  # noqa: S602 (it is meant for a shell)
            command[0], shell=True, capture_output=True, env=installation.environment, check=False
        )
        assert restored.returncode == 0, restored.stderr
        train()


@pytest.mark.usefixtures("first")
def test_what_a_refusal_names_is_there(
    installation: Installation, train: Train, demo_ads: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(demo_ads, dtype=str, keep_default_na=False)
    table.loc[::4, "price"] = "-1"
    table.to_csv(tmp_path / "bad.csv", index=False)

    (line,) = train("--quiet", data=tmp_path / "bad.csv", status=2).printed.splitlines()

    (named,) = re.findall(r"all bad rows are in (\S+\.csv)", line)
    assert Path(named) == installation.reports / "quarantine.csv"
    assert (pd.read_csv(named)["column"] == "price").sum() == len(table) / 4
