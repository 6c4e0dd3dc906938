from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from demand.config import GateSettings
from demand.errors import AdsFileError, ModelError, ServingError
from demand.evaluation.metrics import bootstrap_rmse, regression_metrics
from demand.monitoring import production
from demand.monitoring.production import (
    Evaluation,
    LabelledAds,
    Observed,
    Served,
    evaluate_endpoint,
    judge,
    labelled_ads,
    production_gate,
)
from demand.registry.versions import RegisteredVersion
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads
from tests.serving.test_endpoint import Server

SETTINGS = GateSettings(bootstrap_samples=100)
ADS = make_ads(60, seed=9)
METRICS = {"rmse": 0.24, "mse": 0.0576, "mae": 0.16, "rmse_low": 0.23, "rmse_high": 0.25}


def written(folder: Path, frame: pd.DataFrame = ADS) -> Path:
    frame.to_csv(folder / "ads.csv", index=False)
    return folder / "ads.csv"


# ---------------------------------------------------------------- which ads are sent


def test_all_ads_of_a_small_file_are_taken_in_its_order(tmp_path: Path) -> None:
    found = labelled_ads(written(tmp_path), 1000, seed=1)
    assert found.frame["item_id"].tolist() == ADS["item_id"].tolist()
    assert found.warnings == ()


def test_of_a_large_file_some_are_drawn_by_the_seed_in_its_order(tmp_path: Path) -> None:
    path = written(tmp_path)
    ids = [labelled_ads(path, 20, seed=seed).frame["item_id"].tolist() for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]
    assert len(set(ids[0])) == 20
    assert ids[0] == sorted(ids[0])
    assert ids[0] != ADS["item_id"].tolist()[:20]


@pytest.mark.parametrize("column", ["title", "category_name", TARGET])
def test_ads_that_cannot_be_measured_are_left_out_and_told(column: str, tmp_path: Path) -> None:
    ads = ADS.astype(object)
    ads.loc[[3, 5], column] = None
    found = labelled_ads(written(tmp_path, ads), 1000, seed=1)
    assert len(found.frame) == 58
    (warning,) = found.warnings
    assert warning.startswith("2 ads without title, category_name or deal_probability left out")


def test_a_target_out_of_bounds_is_none(tmp_path: Path) -> None:
    ads = ADS.copy()
    ads.loc[0, TARGET] = 1.5
    found = labelled_ads(written(tmp_path, ads), 1000, seed=1)
    assert len(found.frame) == 59
    assert any("line 2, deal_probability '1.5'" in warning for warning in found.warnings)


def test_a_file_without_anything_to_measure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AdsFileError, match="has no ad with title"):
        labelled_ads(written(tmp_path, ADS.assign(title=None)), 10, seed=1)


def test_a_file_without_labels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AdsFileError, match="lacks 1 of the 18 columns needed: deal_probability"):
        labelled_ads(written(tmp_path, ADS.drop(columns=TARGET)), 10, seed=1)


# ---------------------------------------------------------------- what is measured


def judged(
    answers: np.ndarray,
    own: np.ndarray | None = None,
    *,
    versions: tuple[str, ...] = ("1",) * 60,
    served: dict[str, Served | None] | None = None,
) -> Evaluation:
    own = answers if own is None else own
    served = served or {"1": Served(own, METRICS, "other")}
    observed = Observed(answers, versions, np.array([0.02, 0.01, 0.06]), "http://h/invocations")
    ads = LabelledAds(ADS, "md5", ())
    return judge(ads, observed, served, settings=SETTINGS, seed=3)


ANSWERS = np.linspace(0.05, 0.6, 60)


def test_errors_are_those_of_the_answers_with_intervals_by_seller() -> None:
    metrics = judged(ANSWERS).metrics
    for name, value in regression_metrics(ADS[TARGET], ANSWERS).items():
        assert metrics[name] == pytest.approx(value)
        assert metrics[f"offline_{name}"] == pytest.approx(value)
        assert metrics[f"{name}_low"] < metrics[name] < metrics[f"{name}_high"]
    expected = bootstrap_rmse(
        ADS[TARGET], ANSWERS, samples=100, confidence=0.95, seed=3, groups=ADS["user_id"]
    )
    assert (metrics["rmse_low"], metrics["rmse_high"]) == (expected.low, expected.high)
    assert metrics["mse_low"] == pytest.approx(expected.low**2)


def test_the_interval_of_the_mae_is_that_of_the_mean_of_absolute_errors() -> None:
    metrics = judged(ANSWERS).metrics
    random = np.random.default_rng(0)
    errors = np.abs(ANSWERS - ADS[TARGET].to_numpy())
    means = errors[random.integers(0, 60, size=(4000, 60))].mean(axis=1)
    assert metrics["mae_low"] == pytest.approx(np.quantile(means, 0.025), abs=0.03)
    assert metrics["mae_high"] == pytest.approx(np.quantile(means, 0.975), abs=0.03)


def test_latency_is_in_milliseconds_a_request_and_throughput_in_ads_a_second() -> None:
    metrics = judged(ANSWERS).metrics
    assert metrics["latency_ms_p50"] == pytest.approx(20.0)
    assert 50.0 < metrics["latency_ms_p99"] <= 60.0
    assert metrics["throughput_ads_per_s"] == pytest.approx(60 / 0.09)
    assert (metrics["n"], metrics["requests"]) == (60, 3)


def test_figures_of_training_stand_beside() -> None:
    metrics = judged(ANSWERS).metrics
    assert metrics["training"] == METRICS
    assert (metrics["model_version"], metrics["endpoint"]) == ("1", "http://h/invocations")


def test_the_report_has_the_table_of_errors() -> None:
    found = judged(ANSWERS)
    metrics = found.metrics
    line = next(line for line in found.report.splitlines() if line.startswith("| RMSE"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    interval = f"{metrics['rmse_low']:.4f} – {metrics['rmse_high']:.4f}"
    assert cells == ["RMSE", f"{metrics['rmse']:.4f}", interval, cells[1], "0.2400"]
    assert "Table 1" in found.report
    assert "**Passed**" in found.report


def test_metrics_are_json_whatever_is_unknown() -> None:
    found = judged(ANSWERS, served={"1": None})
    metrics = json.loads(json.dumps(found.metrics, allow_nan=False))
    assert (metrics["offline_rmse"], metrics["max_difference"], metrics["training"]) == (
        (None, None, {})
    )
    assert "**Refused**" in found.report


def test_each_answer_is_compared_with_its_own_version_and_the_switch_is_told() -> None:
    first, second = ANSWERS, ANSWERS[::-1].copy()
    answers = np.concatenate([first[:20], second[20:]])
    served = {"1": Served(first, METRICS, "a"), "2": Served(second, {"rmse": 0.3}, "b")}
    found = judged(answers, versions=("1",) * 20 + ("2",) * 40, served=dict(served))
    assert found.decision.passed
    assert found.metrics["max_difference"] == 0.0
    assert found.metrics["versions"] == {"1": 20, "2": 40}
    assert (found.metrics["model_version"], found.metrics["training"]) == ("2", {"rmse": 0.3})
    (warning,) = found.metrics["warnings"]
    assert warning.endswith("answered were by version 1 20 ads, version 2 40 ads")


def test_ads_that_the_model_was_trained_on_are_told() -> None:
    found = judged(ANSWERS, served={"1": Served(ANSWERS, METRICS, "md5")})
    assert "trained on this very file" in found.metrics["warnings"][0]


# ---------------------------------------------------------------- the gate

KNOWN = {"1": Served(ANSWERS, METRICS, "x")}


@pytest.mark.parametrize(
    ("rmse", "offline", "furthest", "passed"),
    [
        (0.24, 0.24, 0.0, True),
        (0.24, 0.24 + 0.9e-6, 0.9e-5, True),
        (0.24, 0.24 + 1.1e-6, 0.0, False),
        (0.24 + 1.1e-6, 0.24, 0.0, False),
        (0.24, 0.24, 1.1e-5, False),
        (math.nan, 0.24, 0.0, False),
        (0.24, math.nan, 0.0, False),
        (0.24, 0.24, math.nan, False),
    ],
)
def test_only_what_rounding_explains_passes(
    rmse: float, offline: float, furthest: float, passed: bool
) -> None:
    decision = production_gate(rmse, offline, furthest, KNOWN)
    assert (decision.passed, decision.gate) == (passed, "production")
    assert "\n" not in decision.reason


def test_a_version_that_is_not_registered_never_passes() -> None:
    decision = production_gate(0.2, 0.2, 0.0, {"1": KNOWN["1"], "9": None})
    assert not decision.passed
    assert "answers as version 9, which the registry does not have" in decision.reason


def test_one_answer_that_is_off_refuses() -> None:
    off = ANSWERS.copy()
    off[7] += 2e-5
    assert not judged(ANSWERS, off).decision.passed


# ---------------------------------------------------------------- all of it, over HTTP


class Model:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def predict(self, ads: pd.DataFrame) -> np.ndarray:
        prices = ads["price"].fillna(1000.0).to_numpy()
        return self.factor * prices / (1.0 + prices)


class Registered:
    """A registry of two versions, the champion among them."""

    champion_version: str | None = "1"

    def versions(self) -> list[RegisteredVersion]:
        return [
            RegisteredVersion(v, "", "", "other", "", METRICS, Path(), "", "", {})
            for v in ("1", "2")
        ]

    def champion(self) -> RegisteredVersion | None:
        return next((v for v in self.versions() if v.version == self.champion_version), None)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(production, "Registry", Registered)
    monkeypatch.setattr(Registered, "champion_version", "1")
    monkeypatch.setattr(production, "load_predictor", lambda v: Model(int(v.version) / 3))
    monkeypatch.setattr(production, "active", lambda: None)


def told_by(factor: float) -> Callable[[list[Any]], Any]:
    def answer(ads: list[Any]) -> Any:
        prices = pd.DataFrame({"price": [ad["price"] for ad in ads]}, dtype="float64")
        return {"predictions": Model(factor).predict(prices).tolist()}

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.headers = {"demand-model-version": "1"}
    server.answer = told_by(1 / 3)
    yield server
    server.stop()


def evaluated(folder: Path, url: str | None, rows: int = 1000) -> Evaluation:
    return evaluate_endpoint(written(folder), url, rows, settings=SETTINGS, seed=1, max_file_gb=1.0)


def test_a_deployed_model_that_is_the_registered_one_passes(server: Server, tmp_path: Path) -> None:
    found = evaluated(tmp_path, server.root, rows=50)
    assert found.decision.passed
    assert found.metrics["n"] == 50
    assert found.metrics["max_difference"] <= 1e-12
    assert found.metrics["warnings"] == []


def test_another_model_than_the_registered_one_is_refused(server: Server, tmp_path: Path) -> None:
    server.answer = told_by(1 / 3 + 0.01)
    found = evaluated(tmp_path, server.root)
    assert not found.decision.passed
    assert found.metrics["max_difference"] == pytest.approx(0.01, abs=0.001)


def test_the_flask_api_is_measured_alike(server: Server, tmp_path: Path) -> None:
    own = told_by(2 / 3)
    server.headers = {}
    server.answer = lambda ads: [
        {"deal_probability": p, "model_version": "2"} for p in own(ads)["predictions"]
    ]
    found = evaluated(tmp_path, f"{server.root}/predict")
    assert found.decision.passed
    assert found.metrics["model_version"] == "2"
    (warning,) = found.metrics["warnings"]
    assert warning.startswith("version 2 serves, but the champion is version 1")


def test_a_named_endpoint_gets_the_token_of_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMAND_API_TOKEN", "s3cret")
    found = evaluated(tmp_path, server.root)
    assert set(server.tokens) == {"Bearer s3cret"}
    assert "s3cret" not in repr(found)


def test_the_active_deployment_gets_no_token(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMAND_API_TOKEN", "s3cret")
    monkeypatch.setattr(production, "deployed_url", lambda: server.root)
    evaluated(tmp_path, None)
    assert set(server.tokens) == {None}


def test_an_endpoint_that_tells_no_version_is_taken_for_the_champion(
    server: Server, tmp_path: Path
) -> None:
    server.headers = {}
    found = evaluated(tmp_path, server.root)
    assert found.decision.passed
    assert "does not say which version answers: taken for 1" in found.metrics["warnings"][0]


def test_without_version_and_champion_there_is_nothing_to_compare_with(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registered, "champion_version", None)
    server.headers = {}
    with pytest.raises(ServingError, match="no champion to compare with"):
        evaluated(tmp_path, server.root)


def test_without_a_deployment_the_ways_out_are_told(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"nothing is deployed: run `demand serve`.*--url"):
        evaluated(tmp_path, None)


def test_damaged_files_of_the_version_are_an_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(version: RegisteredVersion) -> Model:
        raise ModelError(f"the files of version {version.version} are damaged")

    monkeypatch.setattr(production, "load_predictor", damaged)
    with pytest.raises(ModelError, match="version 1 are damaged"):
        evaluated(tmp_path, server.root)
