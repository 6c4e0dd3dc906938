"""The comparison of demo ads with real ones is honest, and the demo ads pass it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.demo_fidelity import (
    PEERS,
    compare,
    compare_errors,
    compare_shapes,
    main,
    worst_of_each,
)
from demand.data.reading import read_ads
from demand.demo import generate
from demand.schema.columns import TARGET
from demand.workspace.workspace import PROJECT_ROOT

REAL = PROJECT_ROOT.parent / "shared" / "avito" / "ads.csv"


@pytest.mark.parametrize(("demo", "passed"), [(0.254, True), (0.2561, False), (0.2439, False)])
def test_a_figure_passes_only_within_its_tolerance(demo: float, passed: bool) -> None:
    assert compare("RMSE", {"peer": 0.25}, {"peer": demo})["passed"].tolist() == [passed]


def test_a_figure_that_is_no_number_fails() -> None:
    assert not compare("RMSE", {"peer": 0.25}, {"peer": float("nan")})["passed"].item()


def test_all_that_failed_is_shown() -> None:
    real = {str(i): 0.0 for i in range(40)}
    assert worst_of_each(compare("share", real, {**real, "7": 0.01}))["figure"].tolist() == ["7"]


def test_ads_of_another_shape_fail() -> None:
    ads = generate(5_000, 1).assign(**{TARGET: 0.5})
    shapes = compare_shapes(ads)
    assert {"mean", "std", "share of 0"} <= set(shapes.loc[~shapes["passed"], "figure"])


def test_both_sets_of_ads_are_compared_by_each_peer() -> None:
    ads = generate(300, 4)
    same, other = (
        compare_errors(ads, ads, 2, PEERS[:2]),
        compare_errors(ads, ads[:200], 2, PEERS[:2]),
    )
    assert same["figure"].tolist() == ["mean", "category means"]
    assert (same["difference"] == 0.0).all()
    assert (other["difference"] != 0.0).all()


def test_without_real_ads_it_says_so_and_fails(tmp_path: Path, capfd) -> None:
    assert main(["--data", str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capfd.readouterr().err


@pytest.mark.skipif(not REAL.exists(), reason=f"the real ads are not at {REAL}")
def test_demo_ads_are_as_hard_as_real_ones_for_simple_peers() -> None:
    real: pd.DataFrame = read_ads(REAL).frame
    errors = compare_errors(generate(8_000, 2017), real, 5, PEERS[:2])
    assert set(errors["figure"]) == {"mean", "category means"}
    assert errors["passed"].all()
