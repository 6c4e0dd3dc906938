from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demand.errors import GateRefusal, ModelError
from demand.model.training import refit
from demand.registry.model_files import load_predictor
from demand.registry.packaging import log_model
from demand.registry.promotion import (
    LINEAGE_FOLDER,
    SELLERS_FILE,
    Promotion,
    champion_answers,
    log_sellers,
    promote_challenger,
    unseen_by,
)
from demand.registry.registry import Registry
from demand.registry.tracking import TrackedRun, start_run
from demand.registry.versions import RegisteredVersion
from demand.schema.columns import TARGET
from demand.workspace.workspace import Workspace
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES, TRAINING, tiny_predictor

Promote = Callable[..., Promotion]
SAMPLES = make_ads(20, seed=3).drop(columns=TARGET)
SELLERS = ["anna", "boris", "вера"]


def difference(estimate: float, low: float, high: float) -> dict[str, float]:
    return {
        "champion_difference": estimate,
        "champion_difference_low": low,
        "champion_difference_high": high,
    }


BETTER, WORSE = difference(-0.002, -0.003, -0.001), difference(0.002, 0.001, 0.003)
TIE, UNCLEAR = difference(0.0, 0.0, 0.0), difference(0.001, -0.001, 0.003)


@pytest.fixture
def run(workspace: Workspace) -> TrackedRun:
    return start_run("training")


@pytest.fixture
def promote(run: TrackedRun, tmp_path: Path) -> Promote:
    """Promote a model of no content, as a run of that fingerprint would."""

    def promote(
        fingerprint: str,
        metrics: dict[str, float] | None = None,
        compared: Callable[[], str | None] = champion,
    ) -> Promotion:
        model = run.client.create_logged_model(run.experiment_id, source_run_id=run.run_id)
        files = tmp_path / model.model_id
        files.mkdir()
        (files / "MLmodel").write_text("flavors: {}", encoding="utf-8")
        run.client.log_model_artifacts(model.model_id, str(files))
        return promote_challenger(
            model.model_id,
            data_md5="abc",
            fingerprint=fingerprint,
            metrics=metrics or {},
            tags={"git_commit": "c0ffee", "dvc_md5": None},
            compared=compared(),
            margin=0.0005,
        )

    return promote


def champion() -> str | None:
    found = Registry().champion()
    return found.version if found else None


def test_the_first_model_becomes_champion(promote: Promote) -> None:
    result = promote("f1")
    assert (result.version.version, result.promoted, champion()) == ("1", True, "1")
    assert result.version.tags["git_commit"] == "c0ffee"


@pytest.mark.parametrize("metrics", [BETTER, UNCLEAR])
def test_a_challenger_that_is_not_shown_to_be_worse_becomes_champion(
    promote: Promote, metrics: dict[str, float]
) -> None:
    promote("f1")
    result = promote("f2", metrics)
    assert (result.promoted, champion()) == (True, "2")
    previous = Registry().previous()
    assert previous is not None
    assert previous.version == "1"
    assert Registry().history()[-1].reason == result.reason


@pytest.mark.parametrize("metrics", [WORSE, difference(math.nan, math.nan, math.nan)])
def test_a_challenger_that_is_worse_or_cannot_be_measured_is_refused(
    promote: Promote, metrics: dict[str, float]
) -> None:
    promote("f1")
    with pytest.raises(GateRefusal, match="champion gate said no"):
        promote("f2", metrics)
    assert champion() == "1"
    challenger = Registry().challenger()
    assert challenger is not None
    assert challenger.version == "2"


def test_a_tie_leaves_the_champion_and_is_no_refusal(promote: Promote) -> None:
    promote("f1")
    result = promote("f2", TIE)
    assert (result.version.version, result.promoted, champion()) == ("1", False, "1")


def test_a_twin_is_not_promoted_again(promote: Promote) -> None:
    promote("f1")
    result = promote("f1", TIE)
    assert (result.version.version, result.promoted) == ("1", False)
    assert "same data, code and config" in result.reason
    assert len(Registry().versions()) == len(Registry().history()) == 1


def test_a_model_that_was_rolled_back_does_not_come_back_by_itself(promote: Promote) -> None:
    promote("f1")
    promote("f2", BETTER)
    Registry().rollback(reason="complaints")
    with pytest.raises(GateRefusal, match=r"version 2, which was rolled back.*rollback --to 2"):
        promote("f2", BETTER)
    assert champion() == "1"


def test_a_model_whose_deployment_failed_may_try_again(promote: Promote) -> None:
    promote("f1")
    promote("f2", BETTER)
    Registry().undo("2", "the port was taken")
    assert champion() == "1"
    assert promote("f2", BETTER).promoted
    assert champion() == "2"


def sellers_of(run: TrackedRun, promote: Promote) -> RegisteredVersion:
    log_sellers(run, SELLERS)
    return promote("f1").version


def test_sellers_of_the_training_ads_are_seen(run: TrackedRun, promote: Promote) -> None:
    version = sellers_of(run, promote)
    asked = ["вера", "нина", "anna", "Anna", "anna"]
    assert unseen_by(version, asked).tolist() == [False, True, False, True, False]


def test_without_the_record_nobody_counts_as_unseen(promote: Promote) -> None:
    version = promote("f1").version
    assert unseen_by(version, SELLERS).tolist() == [False, False, False]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x80\x04]."])
def test_with_a_damaged_record_nobody_counts_as_unseen(
    workspace: Workspace, run: TrackedRun, promote: Promote, content: bytes
) -> None:
    version = sellers_of(run, promote)
    (record,) = workspace.mlflow_artifacts.rglob(f"{LINEAGE_FOLDER}/{SELLERS_FILE}")
    record.write_bytes(content)
    assert not unseen_by(version, ["nobody"]).any()


def test_the_record_names_no_seller(
    workspace: Workspace, run: TrackedRun, promote: Promote
) -> None:
    sellers_of(run, promote)
    (record,) = workspace.mlflow_artifacts.rglob(f"{LINEAGE_FOLDER}/{SELLERS_FILE}")
    assert np.load(record, allow_pickle=False).dtype == np.uint64
    assert b"anna" not in record.read_bytes()


@pytest.fixture
def real(run: TrackedRun) -> Any:
    model_id = log_model(run, tiny_predictor(), SAMPLES)
    return promote_challenger(
        model_id,
        data_md5="abc",
        fingerprint="f",
        metrics={},
        tags={},
        compared=None,
        margin=0.0005,
    ).version


def test_the_champions_predictor_is_the_one_that_was_trained(real: Any) -> None:
    answers = load_predictor(real).predict(SAMPLES)
    assert answers.tobytes() == tiny_predictor().predict(SAMPLES).tobytes()


def test_a_champion_that_was_tampered_with_is_not_loaded(real: Any) -> None:
    settings = real.source / "data" / "predictor" / "predictor.json"
    settings.write_text(settings.read_text().replace("256", "255"))
    with pytest.raises(ModelError, match=r"version 1 in .* are missing or damaged"):
        load_predictor(real)


def test_a_model_that_was_compared_with_another_champion_is_refused(promote: Promote) -> None:
    promote("a")
    with pytest.raises(GateRefusal, match="the champion changed while this model was trained"):
        promote("b", {}, lambda: None)
    assert champion() == "1"


def test_without_a_champion_all_ads_are_comparable(workspace: Workspace) -> None:
    answers, fresh = champion_answers(None, SAMPLES)
    assert answers is None
    assert fresh.all()


def test_a_champion_that_has_seen_nearly_all_ads_is_compared_on_all(real: Any) -> None:
    answers, fresh = champion_answers(real.version, SAMPLES)
    assert answers is not None
    assert answers.tobytes() == tiny_predictor().predict(SAMPLES).tobytes()
    assert fresh.all()


def test_a_damaged_champion_lets_nobody_pass(real: Any) -> None:
    (real.source / "data" / "predictor" / "predictor.json").unlink()
    with pytest.raises(GateRefusal, match="champion gate said no: there is nothing to compare"):
        champion_answers(real.version, SAMPLES)


def test_a_model_that_was_not_compared_is_refused(promote: Promote) -> None:
    promote("a")
    with pytest.raises(GateRefusal, match="was not compared with the champion, version 1"):
        promote("b", {})
    assert champion() == "1"


def test_a_refitted_champion_is_compared_by_the_fit_that_was_judged(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = tiny_predictor()
    served = refit(make_ads(300, seed=4), 1, FEATURES, TRAINING, 2)
    run = start_run("training")
    model_id = log_model(run, served, SAMPLES, held_out=judged)
    version = Registry().register_challenger(
        model_id, data_md5="abc", fingerprint="refitted", metrics={"rmse": 0.2}
    )
    answers, _ = champion_answers(version.version, SAMPLES)
    assert answers is not None
    assert answers.tobytes() == judged.predict(SAMPLES).tobytes()
    serving = load_predictor(version).predict(SAMPLES)
    assert serving.tobytes() == served.predict(SAMPLES).tobytes()
