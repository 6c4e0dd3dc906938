from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand.monitoring.drift import drift_readings
from demand.monitoring.live_error import expected_rmse, outcome_readings
from demand.monitoring.reference import ROWS_MAX, reference_of
from demand.production_log.config import MonitoringSettings
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads

SETTINGS = MonitoringSettings(bootstrap_samples=200)


def ads(rows: int = 2000, seed: int = 1) -> pd.DataFrame:
    made = make_ads(rows, seed=seed)
    answers = np.clip(made[TARGET].to_numpy() * 0.5 + 0.1, 0, 1)
    found = reference_of(made, answers).assign(seller=made["user_id"].to_numpy())
    return found.assign(unknown=[[]] * rows, low=0.0, high=answers)


REFERENCE = ads(seed=2)


def drift(found: pd.DataFrame) -> dict[str, float | None]:
    readings = drift_readings(found, found, REFERENCE)
    return {name.removeprefix("drift_"): reading.value for name, reading in readings.items()}


def test_a_reference_has_no_texts_and_no_sellers() -> None:
    made = make_ads(50).assign(title="секрет", description="тайна", user_id="кто-то")
    kept = reference_of(made, np.full(50, 0.1))
    assert not {"title", "description", "user_id", "item_id"} & set(kept)
    assert "секрет" not in kept.to_csv()
    assert "тайна" not in kept.to_csv()
    assert set(kept["title_length"]) == {6}


def test_a_large_reference_is_a_sample() -> None:
    kept = reference_of(make_ads(ROWS_MAX + 500), np.arange(ROWS_MAX + 500.0))
    assert len(kept) == ROWS_MAX
    assert kept["deal_probability"].is_monotonic_increasing


def test_the_same_ads_are_at_no_distance() -> None:
    readings = drift_readings(REFERENCE, REFERENCE, REFERENCE)
    assert readings.pop("unknown_share").value == 0.0
    assert all(reading.value == pytest.approx(0.0, abs=1e-9) for reading in readings.values())
    assert {reading.rows for reading in readings.values()} == {len(REFERENCE)}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("log_price", lambda found: found.assign(price=found["price"] * 30)),
        ("category_name", lambda found: found.assign(category_name="Другая")),
        ("region", lambda found: found.assign(region=None)),
        ("user_type", lambda found: found.assign(user_type="Shop")),
        ("title_length", lambda found: found.assign(title_length=150)),
        ("description_length", lambda found: found.assign(description_length=3000)),
        ("deal_probability", lambda found: found.assign(deal_probability=0.99)),
        ("missing", lambda found: found.assign(missing=[["price"]] * len(found))),
    ],
)
def test_each_change_moves_its_own_reading(name: str, change: Any) -> None:
    before, after = drift(ads()), drift(change(ads()))
    moved = {each for each in before if after[each] != before[each]}
    assert moved == {name}
    assert (after[name] or 0.0) > 0.2
    assert (after[name] or 0.0) > (before[name] or 0.0)


def test_no_ads_are_no_drift() -> None:
    readings = drift_readings(ads().head(0), ads().head(0), REFERENCE)
    assert {(reading.value, reading.missing) for reading in readings.values()} == {
        (None, "no ad was answered")
    }


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_column_without_any_value_is_told() -> None:
    nothing = {"price": np.nan}
    for found, reference in (
        (ads().assign(**nothing), REFERENCE),
        (ads().head(1).assign(**nothing), REFERENCE),
        (ads(), REFERENCE.assign(**nothing)),
    ):
        readings = drift_readings(found, found, reference)
        assert readings["drift_log_price"].missing == "no ad has any, or none of the reference"
        assert readings["drift_region"].value is not None


def test_values_that_the_model_does_not_know_are_counted() -> None:
    found = ads(10)
    found["unknown"] = [["region"], ["region", "category_name"], *[[]] * 8]
    assert drift_readings(found, found, REFERENCE)["unknown_share"].value == 0.2
    assert drift_readings(found, found.head(2), REFERENCE)["unknown_share"].value == 1.0


def test_answers_of_others_are_not_the_models() -> None:
    readings = drift_readings(ads(), ads().head(0), REFERENCE)
    assert readings["drift_deal_probability"].missing == "it answered no ad"
    assert readings["drift_region"].value is not None


def outcomes(found: pd.DataFrame) -> dict[str, Any]:
    return outcome_readings(found, REFERENCE, SETTINGS, seed=1)


def test_errors_are_those_of_the_outcomes() -> None:
    found = ads(500)
    readings, error = outcomes(found), found["deal_probability"] - found["outcome"]
    assert readings["rmse"].value == pytest.approx(np.sqrt((error**2).mean()))
    assert readings["mae"].value == pytest.approx(error.abs().mean())
    assert readings["bias"].value == pytest.approx(error.mean())
    for name in ("rmse", "bias", "rmse_excess"):
        assert readings[name].low < readings[name].value < readings[name].high
    assert readings["known_share"].value == 1.0
    inside = found["outcome"] <= found["deal_probability"]  # all intervals begin at 0
    assert readings["coverage"].value == pytest.approx(inside.mean())


def test_where_no_interval_was_told_there_is_no_coverage() -> None:
    assert outcomes(ads().assign(low=None))["coverage"].missing == "no interval was told"


def test_the_interval_of_the_bias_holds_its_truth_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(0), 0
    for _ in range(200):
        found = ads(1).loc[[0] * 200].reset_index(drop=True)
        sellers = random.integers(0, 40, 200)
        shared = random.normal(0, 0.1, 40)[sellers]  # ads of a seller resemble each other
        noise = shared + random.normal(0, 0.1, 200)
        found = found.assign(outcome=0.5, deal_probability=0.5 + noise)
        found["seller"] = [f"s{seller}" for seller in sellers]
        bias = outcomes(found)["bias"]
        held += bias.low <= 0.0 <= bias.high
    assert 0.88 < held / 200 < 0.99


def test_deals_that_are_reported_first_are_no_evidence() -> None:
    found = ads()
    found["outcome"] = found["outcome"].where(found["outcome"] > 0.5)
    share = found["outcome"].notna().mean()
    readings = outcomes(found)
    assert readings["rmse"].missing == f"only {share:.0%} of the outcomes that are due are known"
    assert readings["bias"].value is None
    assert readings["known_share"].value == pytest.approx(share)


def test_no_answers_are_no_error() -> None:
    readings = outcomes(ads().head(0))
    assert readings["rmse"].missing == "it answered no ad whose outcome is due"
    assert readings["known_share"].value is None


def test_the_error_is_expected_to_be_that_of_the_reference_for_the_same_ads() -> None:
    squares = (REFERENCE["deal_probability"] - REFERENCE["outcome"]) ** 2
    found = expected_rmse(REFERENCE["deal_probability"].to_numpy(), REFERENCE)
    assert found.value == pytest.approx(np.sqrt(squares.mean()), rel=0.02)
    assert expected_rmse(np.empty(0), REFERENCE).missing == "no ad was answered"


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_an_expected_error_is_one_that_was_seen(answers: list[float]) -> None:
    found = expected_rmse(np.array(answers), REFERENCE).value
    worst = (REFERENCE["deal_probability"] - REFERENCE["outcome"]).abs().max()
    assert found is not None
    assert 0.0 <= found <= worst
