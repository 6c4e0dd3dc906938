"""Error by slice: the right rows in the right slice, and the bound on the worst."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.config import CheckSettings
from demand.evaluation.behaviour import Finding
from demand.evaluation.slices import (
    REPORTED,
    SLICE_NAMES,
    judged_slices,
    reported_slices,
    slice_checks,
)
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads

ADS = make_ads(1200, seed=21)
ACTUAL = ADS[TARGET].to_numpy()


def check(predicted: np.ndarray, ads: pd.DataFrame = ADS, **bounds: object) -> dict[str, Finding]:
    settings = CheckSettings(**bounds)
    tables = judged_slices(ads, predicted), reported_slices(ads, predicted, None)
    found = {c.name: c.run([]) for c in slice_checks(lambda: tables, settings)}
    assert found.pop(REPORTED).passed
    return found


def compare(predicted: np.ndarray, baseline: np.ndarray | None) -> Finding:
    tables = judged_slices(ADS, predicted), reported_slices(ADS, predicted, baseline)
    *_, check = slice_checks(lambda: tables, CheckSettings())
    return check.run([])


def wrong_on(rows: pd.Series) -> np.ndarray:
    return ACTUAL + np.where(rows, 0.5, 0.05)


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (ADS["parent_category_name"] == "Транспорт", "slice_parent_category"),
        (ADS["user_type"] == "Shop", "slice_seller_type"),
        (ADS["param_1"].isna(), "slice_missing_params"),
        (ADS["price"] > ADS["price"].quantile(0.9), "slice_price_decile"),
        (ADS["description"].isna(), "slice_text_length"),
    ],
)
def test_a_slice_with_much_more_error_fails_its_dimension(rows: pd.Series, name: str) -> None:
    assert not check(wrong_on(rows), slice_min_rows=20)[name].passed


def test_even_error_passes_every_dimension() -> None:
    findings = check(ACTUAL + 0.1)
    assert [name for name, f in findings.items() if f.passed] == [
        name for name in SLICE_NAMES if name != REPORTED
    ]


def test_a_perfect_model_passes() -> None:
    assert all(finding.passed for finding in check(ACTUAL).values())


def test_nan_fails() -> None:
    assert not any(finding.passed for finding in check(ACTUAL * np.nan).values())


def test_small_slices_are_not_judged() -> None:
    rows = ADS["user_type"] == "Shop"
    finding = check(wrong_on(rows), slice_min_rows=int(rows.sum()) + 1)["slice_seller_type"]
    assert finding.passed


def test_no_slice_of_enough_rows_is_said() -> None:
    assert "not judged" in check(ACTUAL, slice_min_rows=5000)["slice_seller_type"].detail


def test_every_division_holds_all_rows() -> None:
    rows = judged_slices(ADS, ACTUAL).groupby("slice")["rows"].sum()
    assert (rows == len(ADS)).all()


def test_the_worst_slice_of_a_division_comes_first() -> None:
    table = judged_slices(ADS, wrong_on(ADS["user_type"] == "Shop"))
    first = table[table["slice"] == "user_type"].iloc[0]
    assert (first["value"], first["rmse"]) == ("Shop", pytest.approx(0.5))


def test_training_rows_are_counted_where_slices_can_be_compared() -> None:
    train = make_ads(300, seed=22)
    table = judged_slices(ADS, ACTUAL, train).set_index(["slice", "value"])["train_rows"]
    assert table["user_type", "Shop"] == (train["user_type"] == "Shop").sum()
    assert table["price_decile"].isna().all()


def test_the_reported_slices_compare_with_all_rows_and_the_baseline() -> None:
    rows = ADS["parent_category_name"] == "Транспорт"
    transport = reported_slices(ADS, ACTUAL + 0.1, wrong_on(rows)).loc[1]
    assert transport["rows"] == int(rows.sum())
    assert transport["mae"] == pytest.approx(0.0)
    everywhere = np.where(rows, 0.5, 0.05)
    assert transport["baseline_mae"] == pytest.approx(0.5 / everywhere.mean() - 1.0)
    assert transport["baseline_mse"] == pytest.approx(0.25 / (everywhere**2).mean() - 1.0)


def test_a_reported_slice_without_rows_has_no_error() -> None:
    others = ADS[ADS["parent_category_name"] != "Транспорт"]
    assert np.isnan(reported_slices(others, others[TARGET].to_numpy() + 0.1, None)["rmse"][1])


@pytest.mark.parametrize(("ours", "passed"), [(0.1, True), (0.2, True), (0.3, False)])
def test_where_the_report_was_weak_ours_must_not_be_worse(ours: float, passed: bool) -> None:
    finding = compare(ACTUAL + ours, ACTUAL + 0.2)
    assert finding.passed is passed
    assert finding.value == pytest.approx(ours - 0.2)


def test_where_the_report_was_weak_nan_fails() -> None:
    assert not compare(ACTUAL * np.nan, ACTUAL + 0.2).passed


def test_without_the_baselines_answers_nothing_is_compared() -> None:
    finding = compare(ACTUAL + 0.1, None)
    assert finding.passed
    assert finding.detail.startswith("not judged")
