"""What more ads cost is measured as it is, and the peers of many ads have a fair chance."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from benchmarks import scaling
from benchmarks.models import large
from benchmarks.models.large import PEERS, Task, tokens
from benchmarks.scaling import ALL, REST, Model, Size, draw, findings, grids, learn, usage_of_steps
from benchmarks.servers.installation import Installation
from benchmarks.servers.usage import Usage, watch
from demand.config import SplitSettings
from demand.data.splitting import split_ads
from demand.data.typed import TypedAds
from demand.demo import generate
from demand.evaluation.metrics import rmse
from demand.schema.columns import TARGET

ROWS = 1_500
PLENTY = Usage(100.0, math.inf, 1e5)
USED = Usage(10.0, 15.0, 900.0)


@pytest.fixture(scope="module")
def ads() -> pd.DataFrame:
    return generate(ROWS, 11)


@pytest.fixture(scope="module")
def parts(ads: pd.DataFrame) -> dict[str, np.ndarray]:
    split = split_ads(ads, SplitSettings(), 1)
    return {"training": split.train, "validation": split.validation, "test": split.test}


@pytest.fixture(scope="module")
def stored(ads: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> TypedAds:
    return TypedAds.write(tmp_path_factory.mktemp("ads") / "ads.parquet", [ads])


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BUCKETS": 2**12, "COMPONENTS": 4, "ROUNDS": 20}.items():
        monkeypatch.setattr(large, name, value)


def size(rows: int, *answers: float, used: Usage = USED) -> Size:
    """Models that answer all of 40 ads alike; ours is the first."""
    test = pd.DataFrame({TARGET: np.tile([0.0, 0.4], 20), "user_id": np.arange(40).astype(str)})
    models = [Model(f"m{n}", used, "", np.full(40, each)) for n, each in enumerate(answers)]
    models.append(Model("slow", used, "out of time", None))
    return Size(rows, test, 0.3, 0.1, {"train": used, ALL: used}, 100.0, 80.0, models)


# ------------------------------------------------------------------ time and memory


def test_each_step_has_what_was_used_while_it_ran() -> None:
    used = [(0, 0, 0), (1, 1, 50), (2, 3, 90), (3, 5, 70), (4, 5, 95), (5, 6, 10)]
    found = usage_of_steps(np.array(used, float), {"one": (3.0, 2.0), "two": (4.0, 0.5)})
    assert found == {
        "one": Usage(2.0, 4.0, 90.0),
        "two": Usage(0.5, 0.0, 95.0),
        REST: Usage(2.5, 2.0, 10.0),
        ALL: Usage(5.0, 6.0, 95.0),
    }


def test_children_are_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.servers.usage.SAMPLE_S", 0.05)
    child = "import time; held = bytearray(90_000_000); sum(range(3_000_000)); time.sleep(0.3)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    used = list(watch(psutil.Popen(["python", "-c", code])))
    assert max(each.megabytes for each in used) > 90
    assert 0 < used[-1].cpu_s < 2 * used[-1].seconds
    assert 0.3 < used[-1].seconds < 20
    assert all(np.diff([each.cpu_s for each in used]) >= 0)


# --------------------------------------------------------------------------- peers


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_learns_and_knows_no_outcome_of_the_test_ads(
    peer: str, ads: pd.DataFrame, stored: TypedAds, parts: dict[str, np.ndarray], tmp_path: Path
) -> None:
    test = parts["test"]
    hidden = ads.assign(**{TARGET: ads[TARGET].where(~ads.index.isin(test), 0.5)})
    without = TypedAds.write(tmp_path / "hidden.parquet", [hidden])
    answers, again = (PEERS[peer][1](Task(a, **parts, until=1e12))[0] for a in (stored, without))
    np.testing.assert_array_equal(answers, again)
    assert answers.shape == test.shape
    assert 0.0 <= answers.min() < answers.max() <= 1.0
    # A network sees too few of so few ads to be better than their mean.
    mean = rmse(ads[TARGET][test], np.full(len(test), ads[TARGET][parts["training"]].mean()))
    assert rmse(ads[TARGET][test], answers) < mean + (0.005 if peer == "mlp" else 0.0)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("peer", ["lightgbm-ours", "mlp"])
def test_who_has_no_time_left_answers_with_what_it_has(
    peer: str, stored: TypedAds, parts: dict[str, np.ndarray]
) -> None:
    answers, told = PEERS[peer][1](Task(stored, **parts, until=0.0))
    assert np.isfinite(answers).all()
    assert told in ("after round 1", "after pass 1")


def test_title_description_and_values_are_told_apart() -> None:
    ad = ("Стол, стол!", None, "Мебель", np.nan)
    assert list(tokens(ad)) == ["tстол", "tстол", "tстол стол", "0=Мебель", "1=nan"]
    assert next(tokens((None, "Стол"))) == "dстол"


def test_a_peer_is_a_process_with_limits(
    stored: TypedAds, parts: dict[str, np.ndarray], tmp_path: Path
) -> None:
    np.savez(given := tmp_path / "parts.npz", **parts)
    installation = Installation(tmp_path)
    whole = learn(installation, "ridge", stored.path, given, PLENTY)
    np.testing.assert_array_equal(
        whole.answers, PEERS["ridge"][1](Task(stored, **parts, until=0.0))[0]
    )
    assert whole.used.megabytes > 50
    for limit, end in (((0.0, 1e5), "out of time"), ((100.0, 1.0), "out of memory")):
        ended = learn(installation, "ridge", stored.path, given, Usage(limit[0], 0.0, limit[1]))
        assert (ended.end, ended.answers) == (end, None)
    failed = learn(installation, "ridge", tmp_path / "none", given, PLENTY)
    assert failed.end.startswith("failed: ")
    assert "none" in failed.end


# -------------------------------------------------------------------------- tables


def test_what_is_explained_is_a_share_of_what_can_be() -> None:
    found = size(1_000, 0.2)
    assert found.quality(found.models[0]) == pytest.approx((0.2, 0.625))
    assert all(map(math.isnan, found.quality(found.models[-1])))


def test_only_who_answered_is_compared_and_growth_is_that_of_the_rows() -> None:
    sizes = [size(100_000, 0.2, 0.0), size(200_000, 0.2, 0.0, used=Usage(25.0, 1.0, 1_700.0))]
    found = {each.figure: each for each in findings(sizes)}
    assert found["RMSE of m1 less ours, low end"].passed
    assert not any("slow" in figure for figure in found)
    growths = [round(each.found, 3) for name, each in found.items() if "growth" in name]
    assert growths == [1.25, 0.944]
    assert "explained" not in found
    assert not {each.figure: each for each in findings([size(1_500_000, 0.3)])}["explained"].passed


def test_tables_have_a_line_a_size_step_and_model() -> None:
    sizes = [size(10_000, 0.2, 0.1), size(20_000, 0.2, 0.1)]
    _, whole, steps, peers = grids(sizes)
    assert [row["ads"] for row in whole.records()] == ["10,000", "20,000"]
    assert [row["20,000: MB"] for row in steps.records()] == [900.0, 900.0]
    assert [row[-1] for row in peers.rows] == ["", "", "out of time"] * 2
    assert [each["RMSE"] is None for each in peers.records()] == [False, False, True] * 2
    assert draw(sizes).startswith(b"\x89PNG")


@pytest.mark.e2e
def test_the_pipeline_and_a_peer_are_measured(tmp_path: Path) -> None:
    quick = {"training": {"epochs_max": 1}, "checks": {"giskard_scan": False}}
    quick |= {"gate": {"rmse_threshold": 0.3}}
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(quick))
    options = ["--rows", str(ROWS), "--peers", "ridge", "--results", str(tmp_path), "--quiet"]
    assert scaling.main([*options, "--config", str(tmp_path / "quick.yaml")]) == 0
    tables = json.loads((tmp_path / "scaling.json").read_text())["tables"]
    (ours,), steps = tables["Our pipeline"], tables["Its steps"]
    assert ours["floor"] < ours["RMSE"] < ours["mean"] + 0.01
    assert [steps[0]["step"], steps[-3]["step"], steps[-1]["step"]] == ["ingest", "deploy", ALL]
    assert steps[-1][f"{ROWS:,}: MB"] > 100
    assert [row["end"] for row in tables["Beside peers, on the same ads"]] == ["", ""]
    assert (tmp_path / "scaling.png").exists()
