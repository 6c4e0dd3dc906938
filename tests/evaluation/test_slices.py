from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from demand.evaluation.metrics import rmse
from demand.evaluation.slices import (
    COVERAGE_ROWS_MIN,
    MISSING,
    measure_coverage,
    slice_errors,
    standard_slices,
)
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads

SLICES = [
    "parent_category_name",
    "category_name",
    "user_type",
    "param_1_given",
    "param_2_given",
    "param_3_given",
    "image_given",
    "price_decile",
    "text_quartile",
]


@pytest.fixture(scope="module")
def ads() -> pd.DataFrame:
    return make_ads(600, seed=4)


def test_slice_errors_of_known_rows() -> None:
    kinds = pd.Series(["a", "a", "b", "b"], index=[9, 8, 7, 6])
    table = slice_errors([0, 0, 0, 0], [0.1, -0.1, 0.3, 0.3], {"kind": kinds})
    overall = math.sqrt(0.05)
    columns = ["slice", "value", "rows", "rmse", "mae", "bias", "ratio"]
    assert table.columns.tolist() == [*columns, "actual_mean", "predicted_mean"]
    assert table["value"].tolist() == ["a", "b"]
    assert table["rows"].tolist() == [2, 2]
    assert table["rmse"].tolist() == pytest.approx([0.1, 0.3])
    assert table["mae"].tolist() == pytest.approx([0.1, 0.3])
    assert table["bias"].tolist() == pytest.approx([0.0, 0.3])
    assert table["ratio"].tolist() == pytest.approx([0.1 / overall, 0.3 / overall])


def test_slices_have_the_means_of_truth_and_prediction() -> None:
    kinds = pd.Series(["a", "a", "b"])
    table = slice_errors([0.2, 0.4, 1.0], [0.1, 0.1, 0.5], {"kind": kinds})
    assert table["actual_mean"].tolist() == pytest.approx([0.3, 1.0])
    assert table["predicted_mean"].tolist() == pytest.approx([0.1, 0.5])


def test_small_slices_are_left_out() -> None:
    kinds = pd.Series(["a", "a", "b"])
    table = slice_errors([0, 0, 0], [1, 1, 1], {"kind": kinds}, min_rows=2)
    assert table["value"].tolist() == ["a"]


def test_a_missing_value_is_a_slice() -> None:
    table = slice_errors([0, 0], [1, 1], {"kind": pd.Series(["a", None], dtype=object)})
    assert sorted(table["value"]) == ["a", MISSING]


def test_perfect_predictions_have_no_ratio() -> None:
    table = slice_errors([0, 1], [0, 1], {"kind": pd.Series(["a", "b"])})
    assert table["ratio"].isna().all()


def test_slices_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="'kind' have 1 rows, not 2"):
        slice_errors([0, 1], [0, 1], {"kind": pd.Series(["a"])})


def test_standard_slices_divide_every_ad(ads: pd.DataFrame) -> None:
    slices = standard_slices(ads)
    assert list(slices) == SLICES
    assert all(series.notna().all() and len(series) == len(ads) for series in slices.values())


def test_errors_of_a_division_add_up_to_the_error_of_all(ads: pd.DataFrame) -> None:
    predicted = np.random.default_rng(0).random(len(ads))
    table = slice_errors(ads[TARGET], predicted, standard_slices(ads))
    total = (table["rmse"] ** 2 * table["rows"]).groupby(table["slice"]).sum() / len(ads)
    assert np.sqrt(total).tolist() == pytest.approx([rmse(ads[TARGET], predicted)] * len(SLICES))


def test_price_deciles_are_in_order_of_price_and_say_their_bounds(ads: pd.DataFrame) -> None:
    slices = standard_slices(ads)["price_decile"]
    highest = ads["price"].groupby(slices, observed=True).max()
    assert len(highest) == 11
    assert highest.iloc[:10].is_monotonic_increasing
    assert highest.index[9].endswith(f"–{ads['price'].max():,.0f} ₽")
    assert math.isnan(highest[MISSING])


def test_presence_of_a_param_is_seen(ads: pd.DataFrame) -> None:
    slices = standard_slices(ads)["param_2_given"]
    assert (slices.eq(MISSING) == ads["param_2"].isna()).all()


def test_columns_without_any_value_are_one_slice(ads: pd.DataFrame) -> None:
    empty = ads.assign(price=np.nan, description=None, title=None, param_1=None, image=None)
    slices = standard_slices(empty)
    assert slices["price_decile"].unique().tolist() == [MISSING]
    assert slices["text_quartile"].unique().tolist() == ["1: 0–0 letters"]
    assert slices["image_given"].unique().tolist() == [MISSING]


def test_one_ad_can_be_divided(ads: pd.DataFrame) -> None:
    table = slice_errors([0.0], [0.5], standard_slices(ads.head(1)))
    assert table["rmse"].tolist() == [0.5] * len(SLICES)


def test_coverage_is_the_share_of_outcomes_within_their_bounds() -> None:
    ads = make_ads(4).assign(**{TARGET: [0.0, 0.2, 0.5, 1.0]})
    low, high = np.array([0.0, 0.3, 0.4, 0.0]), np.array([0.1, 0.4, 0.5, 0.9])
    found = measure_coverage(ads, low, high)
    assert found.overall == 0.5
    assert found.width == pytest.approx(0.3)
    assert found.by_parent_category == {}


def test_a_parent_category_is_measured_with_enough_ads() -> None:
    ads = make_ads(COVERAGE_ROWS_MIN + 5)
    ads["parent_category_name"] = ["много"] * COVERAGE_ROWS_MIN + ["мало"] * 5
    ads[TARGET] = [0.0] * COVERAGE_ROWS_MIN + [1.0] * 5
    bounds = np.zeros(len(ads))
    assert measure_coverage(ads, bounds, bounds).by_parent_category == {"много": 1.0}
