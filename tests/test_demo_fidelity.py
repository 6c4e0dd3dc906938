"""The comparison of demo ads with real ones is honest, and the demo ads pass it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.demo_fidelity import compare_errors, main, worst_of_each
from benchmarks.fidelity_models import PEERS, lightgbm_peer, ridge_peer
from benchmarks.fidelity_shapes import TOLERANCE, Comparison, compare_shapes
from demand.ads import TARGET
from demand.demo import generate
from demand.ingestion.reading import read_ads
from demand.state import PROJECT_ROOT

REAL = PROJECT_ROOT.parent / "shared" / "avito" / "ads.csv"


@pytest.mark.parametrize(("demo", "passed"), [(0.254, True), (0.2561, False), (0.2439, False)])
def test_a_figure_passes_only_within_its_tolerance(demo: float, passed: bool) -> None:
    assert Comparison("RMSE", "peer", 0.25, demo, TOLERANCE).passed is passed


def test_a_figure_that_is_no_number_fails() -> None:
    assert not Comparison("RMSE", "peer", 0.25, float("nan"), TOLERANCE).passed


def test_all_that_failed_is_shown() -> None:
    many = [Comparison("share", str(i), 0.0, 0.01 * (i == 7), TOLERANCE) for i in range(40)]
    assert [item.figure for item in worst_of_each(many)] == ["7"]


def test_ads_of_another_shape_fail() -> None:
    ads = generate(5_000, 1).assign(**{TARGET: 0.5})
    failed = {item.figure for item in compare_shapes(ads) if not item.passed}
    assert {"mean", "std", "share of 0"} <= failed


@pytest.mark.parametrize("peer", [ridge_peer, lightgbm_peer])
def test_a_peer_never_sees_the_targets_of_the_test_ads(peer) -> None:
    ads = generate(1_200, 4)
    train, test = ads.iloc[:900], ads.iloc[900:]
    blind = peer(train, test.assign(**{TARGET: np.nan}))
    np.testing.assert_array_equal(peer(train, test), blind)


def test_without_real_ads_it_says_so_and_fails(tmp_path: Path, capsys) -> None:
    assert main(["--data", str(tmp_path / "none.csv")]) == 1
    assert "--data" in capsys.readouterr().out


@pytest.mark.skipif(not REAL.exists(), reason=f"the real ads are not at {REAL}")
def test_demo_ads_are_as_hard_as_real_ones_for_simple_peers(monkeypatch) -> None:
    real: pd.DataFrame = read_ads(REAL).frame
    for name in ("ridge on TF-IDF", "LightGBM"):
        monkeypatch.delitem(PEERS, name)
    errors = compare_errors(generate(8_000, 2017), real, folds=5)
    assert {item.figure for item in errors} == {"mean", "category means"}
    assert all(item.passed for item in errors)
