"""The comparison of demo ads with real ones is honest, and the demo ads pass it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.demo_fidelity import (
    PEERS,
    TOLERANCE,
    Comparison,
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


def test_both_sets_of_ads_are_compared_by_each_peer() -> None:
    ads = generate(300, 4)
    same, other = (
        compare_errors(ads, ads, 2, PEERS[:2]),
        compare_errors(ads, ads[:200], 2, PEERS[:2]),
    )
    assert [item.figure for item in same] == ["mean", "category means"]
    assert all(item.demo == item.real for item in same)
    assert all(item.demo != item.real for item in other)


def test_without_real_ads_it_says_so_and_fails(tmp_path: Path, capfd) -> None:
    assert main(["--data", str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capfd.readouterr().err


@pytest.mark.skipif(not REAL.exists(), reason=f"the real ads are not at {REAL}")
def test_demo_ads_are_as_hard_as_real_ones_for_simple_peers() -> None:
    real: pd.DataFrame = read_ads(REAL).frame
    errors = compare_errors(generate(8_000, 2017), real, 5, PEERS[:2])
    assert {item.figure for item in errors} == {"mean", "category means"}
    assert all(item.passed for item in errors)
