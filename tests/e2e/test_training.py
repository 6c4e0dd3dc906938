"""The training pipeline through its door: ``python run.py --pipeline training``.

The tests follow one installation through its life, in the order in which they stand.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demand.registry.registry import Registry
from demand.registry.tracking import open_run
from demand.workspace.workspace import Workspace
from tests.e2e.door import Door, Run
from tests.e2e.installation import AD, Installation, answer

pytestmark = pytest.mark.e2e

STEPS = [
    *("ingest", "trace", "validate", "split", "baselines", "build_features"),
    *("train", "check", "evaluate", "refit", "package", "promote", "deploy"),
]
SCAN = {"giskard_scan": True, "scan_rows": 60}


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, demo_ads: Path
) -> Iterator[Installation]:
    """Return an installation as it is before the first run: there are no stores."""
    installation = Installation(tmp_path_factory.mktemp("installation"), demo_ads)
    yield installation
    installation.stop()


class First:
    """What the first run said and left."""

    def __init__(self, installation: Installation) -> None:
        done = installation.run_training(config=installation.write_config("scan.yaml", checks=SCAN))
        self.status, self.printed, self.output = done.returncode, done.stderr, done.stdout
        assert self.status == 0, self.printed
        self.metrics = installation.metrics()
        self.timings: list[dict[str, Any]] = json.loads(
            (installation.reports / "timings.json").read_text(encoding="utf-8")
        )
        self.reports = {
            str(path.relative_to(installation.reports))
            for path in installation.reports.rglob("*")
            if path.is_file()
        }
        self.answer = answer(self.metrics["endpoint"])


@pytest.fixture(scope="module")
def first(installation: Installation) -> First:
    return First(installation)


class TestAFirstTraining:
    def test_leaves_the_metrics_that_others_rely_on(
        self, first: First, installation: Installation, demo_ads: Path
    ) -> None:
        metrics = first.metrics
        assert metrics["rmse"] < metrics["baseline_rmse"]
        assert metrics["rmse"] < metrics["threshold"] == 0.3
        assert metrics["mse"] == pytest.approx(metrics["rmse"] ** 2)
        assert metrics["rows_train"] + metrics["rows_validation"] + metrics["rows_test"] == 1500
        assert metrics["data_md5"] == hashlib.md5(demo_ads.read_bytes()).hexdigest()  # noqa: S324
        assert (metrics["deployed"], metrics["model_version"]) == (True, "1")
        assert metrics["endpoint"] == f"http://127.0.0.1:{installation.port}/invocations"
        assert metrics.keys() >= {"mae", "baseline_category_means_rmse"}
        assert metrics.keys() >= {"baseline_reports_mlp_rmse"}

    def test_tells_what_each_step_took(self, first: First) -> None:
        parts = {row["part"]: row for row in first.timings}
        assert sorted(parts) == sorted([*STEPS, "ZenML and start-up", "total"])
        assert not any(row["cached"] for row in first.timings)
        seconds = [row["seconds"] for row in first.timings[:-1]]
        assert sum(seconds) == pytest.approx(parts["total"]["seconds"], abs=1.0)
        assert all(part in first.printed for part in parts)

    def test_leaves_its_reports(self, first: First) -> None:
        assert first.reports >= {
            "quarantine.csv",
            "data_docs/index.html",
            "checks.html",
            "evaluation.html",
            "model_card.html",
            "model_card.md",
            "served/checks.html",
            "curves.csv",
            "calibration.csv",
        }
        assert any("scan" in name for name in first.reports)

    def test_prints_nothing_on_standard_output(self, first: First) -> None:
        assert first.output == ""

    def test_prints_a_curl_line_that_works_in_a_shell(self, first: First) -> None:
        (line,) = [line for line in first.printed.splitlines() if line.startswith("curl ")]
        assert shutil.which("curl"), "the test needs curl"
        told = subprocess.run(  # noqa: S602 (it is meant for a shell)
            line, shell=True, capture_output=True, text=True, check=True, timeout=60
        )
        assert json.loads(told.stdout)["predictions"] == [first.answer]

    def test_serves_a_probability_for_a_raw_ad(self, first: First) -> None:
        assert 0.0 <= first.answer <= 1.0

    def test_is_told_by_demand_status(self, first: First, installation: Installation) -> None:
        told = json.loads(installation.demand("status", "--json").stdout)
        assert (told["champion"], told["version"], told["healthy"]) == ("1", "1", True)
        assert told["endpoint"] == first.metrics["endpoint"]
        assert told["data_md5"] == first.metrics["data_md5"]
        assert told["metrics"]["rmse"] == pytest.approx(first.metrics["rmse"])

    def test_is_answered_alike_by_demand_predict(
        self, first: First, installation: Installation
    ) -> None:
        path = installation.folder / "ad.json"
        path.write_text(json.dumps(AD), encoding="utf-8")
        told = installation.demand("predict", "--ad", str(path)).stdout
        assert float(told) == pytest.approx(first.answer, abs=1e-6)

    def test_is_champion_in_the_registry_and_leads_back_to_its_bytes(
        self, first: First, installation: Installation
    ) -> None:
        workspace = Workspace(installation.home)
        champion = Registry(workspace).champion()
        assert champion is not None
        assert (champion.version, champion.data_md5) == ("1", first.metrics["data_md5"])
        run = open_run(champion.run_id, workspace)
        tags = run.client.get_run(champion.run_id).data.tags
        assert tags["data_md5"] == first.metrics["data_md5"]
        assert tags["data_file"] == "ads.csv"
        assert tags["data_rows"] == "1500"
        params = run.client.get_run(champion.run_id).data.params
        assert params["training.epochs_max"] == "1"

    @pytest.mark.usefixtures("first")
    def test_is_listed_by_zenml_as_a_served_model(self, installation: Installation) -> None:
        listed = installation.zenml("model-deployer", "models", "list")
        rows = [line for line in listed.splitlines() if "mlflow" in line]
        assert len(rows) == 1, listed
        assert re.search(r"✅.* demand ", rows[0])

    @pytest.mark.usefixtures("first")
    def test_is_listed_by_zenml_as_a_run(self, installation: Installation) -> None:
        listed = installation.zenml("pipeline", "runs", "list")
        rows = [line for line in listed.splitlines() if "training-" in line]
        assert len(rows) == 1, listed
        assert "✅" in rows[0]


@pytest.fixture(scope="module")
def printed_again(first: First, installation: Installation, door: Door) -> str:
    shutil.rmtree(installation.reports)
    run = door.start(installation, config=installation.folder / "scan.yaml")
    assert run.wait() == 0, run.printed
    return run.printed


class TestTheSameAgain:
    def test_trains_nothing(self, printed_again: str, installation: Installation) -> None:
        rows = json.loads((installation.reports / "timings.json").read_text(encoding="utf-8"))
        cached = {row["part"] for row in rows if row["cached"]}
        assert cached >= set(STEPS[: STEPS.index("evaluate")]) - {"trace"}
        assert "epoch" not in printed_again

    @pytest.mark.usefixtures("printed_again")
    def test_keeps_version_and_server(self, first: First, installation: Installation) -> None:
        metrics = installation.metrics()
        assert (metrics["model_version"], metrics["deployed"]) == ("1", True)
        assert metrics["endpoint"] == first.metrics["endpoint"]
        assert answer(first.metrics["endpoint"]) == first.answer

    @pytest.mark.usefixtures("printed_again")
    def test_brings_lost_reports_back(self, first: First, installation: Installation) -> None:
        there = {
            str(path.relative_to(installation.reports))
            for path in installation.reports.rglob("*")
            if path.is_file()
        }
        assert there == first.reports


@pytest.fixture(scope="module")
def refused(first: First, installation: Installation, door: Door) -> Run:
    config = installation.write_config("strict.yaml", gate={"rmse_threshold": 0.1}, checks=SCAN)
    run = door.start(installation, "--quiet", config=config)
    run.wait()
    return run


class TestAThresholdOutOfReach:
    def test_ends_with_two_and_one_line_that_says_which_gate_and_why(self, refused: Run) -> None:
        assert refused.wait() == 2
        (line,) = refused.printed.splitlines()
        assert line.startswith("stopped: the rmse gate said no: the test RMSE 0.2")
        assert line.endswith("is not below 0.1; what was serving still serves")

    @pytest.mark.usefixtures("refused")
    def test_promotes_nothing_and_what_served_still_answers(
        self, first: First, installation: Installation
    ) -> None:
        told = installation.status()
        assert (told["champion"], told["version"], told["healthy"]) == ("1", "1", True)
        assert told["endpoint"] == first.metrics["endpoint"]
        assert answer(told["endpoint"]) == first.answer

    @pytest.mark.usefixtures("refused")
    def test_says_in_the_metrics_that_nothing_was_deployed(
        self, installation: Installation
    ) -> None:
        metrics = installation.metrics()
        assert (metrics["deployed"], metrics["endpoint"]) == (False, None)
        assert (metrics["model_version"], metrics["threshold"]) == (None, 0.1)


@pytest.fixture(scope="module")
def crossed(installation: Installation) -> Path:
    # A margin that no comparison of so few ads can exceed.
    return installation.write_config(
        "crossed.yaml",
        features={"crosses": True, "cross_buckets": 2**16},
        gate={"champion_margin": 0.1},
    )


@pytest.fixture(scope="module")
def promoted(first: First, installation: Installation, door: Door, crossed: Path) -> dict[str, Any]:
    run = door.start(installation, "--no-deploy", config=crossed)
    assert run.wait() == 0, run.printed
    return installation.metrics()


class TestOtherParameters:
    """Crosses, learnt in one pass as very many ads are, first without deploying, then with."""

    def test_are_compared_with_the_champion_on_the_same_ads(
        self, promoted: dict[str, Any], first: First
    ) -> None:
        assert promoted["champion_rmse"] == pytest.approx(first.metrics["rmse"])
        assert promoted["champion_rows"] == promoted["rows_test"]
        assert (
            promoted["champion_difference_low"]
            <= promoted["champion_difference"]
            <= promoted["champion_difference_high"]
        )

    def test_without_deploying_make_a_champion_that_does_not_serve_yet(
        self, promoted: dict[str, Any], first: First, installation: Installation
    ) -> None:
        assert (promoted["deployed"], promoted["endpoint"]) == (False, None)
        assert promoted["model_version"] == "2"
        told = installation.status()
        assert (told["champion"], told["version"]) == ("2", "1")
        assert "demand serve" in told["problem"]
        assert answer(first.metrics["endpoint"]) == first.answer

    @pytest.mark.usefixtures("promoted")
    def test_serve_after_a_run_that_deploys(
        self, first: First, installation: Installation, door: Door, crossed: Path
    ) -> None:
        assert door.start(installation, config=crossed).wait() == 0
        metrics = installation.metrics()
        assert (metrics["deployed"], metrics["model_version"]) == (True, "2")
        told = installation.status()
        assert (told["version"], told["problem"]) == ("2", None)
        card = (installation.reports / "model_card.md").read_text(encoding="utf-8")
        assert "from each once" in card
        assert answer(metrics["endpoint"]) != first.answer


def test_another_installation_sees_nothing_of_the_first(
    first: First, new_installation: Callable[[], Installation]
) -> None:
    other = new_installation()
    told = other.status()
    assert (told["champion"], told["endpoint"], told["healthy"]) == (None, None, False)
    assert "training-" not in other.zenml("pipeline", "runs", "list")
