"""The model card as data: the contract of `GET /card`, without NaN."""

from __future__ import annotations

import dataclasses
import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.reports.card import ModelFacts, card_data
from tests.reports.card_facts import COMMIT, TEST_ROWS, all_facts, bare_facts, measured

MEMBERS = {
    "format",
    "trained",
    "demo",
    "size_bytes",
    "data",
    "rows",
    "metrics",
    "calibration",
    "error_by_category",
    "weaknesses",
    "data_warnings",
}
TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates, too


def as_json(facts: ModelFacts) -> dict[str, object]:
    """Return the card as it comes out of its file, which must be JSON for everyone."""
    text = json.dumps(card_data(facts), ensure_ascii=False, allow_nan=False)
    found: dict[str, object] = json.loads(text.encode())
    return found


@pytest.mark.parametrize("facts", [all_facts(), bare_facts()], ids=["all", "bare"])
def test_every_card_has_every_member(facts: ModelFacts) -> None:
    assert as_json(facts).keys() == MEMBERS


def test_known_facts_are_told() -> None:
    card = card_data(all_facts())
    assert (card["format"], card["trained"], card["demo"]) == (1, "2026-11-24", False)
    assert card["size_bytes"] == 138_912
    assert card["rows"] == {"train": 2100, "validation": 300, "test": TEST_ROWS}
    assert card["data"] == {
        "file": "my ads.csv",
        "md5": "ab" * 16,
        "rows": 3007,
        "git_commit": COMMIT,
    }
    assert card["weaknesses"] == [
        "slice_price_decile: too much",
        "direction_price: the wrong way",
    ]
    assert card["data_warnings"] == ["fewer regions than expected"]
    assert card["metrics"] == measured().metrics


def test_what_is_not_known_is_null_or_empty() -> None:
    card = card_data(bare_facts())
    assert card["data"] == {"file": None, "md5": None, "rows": None, "git_commit": None}
    assert card["rows"] == {"train": None, "validation": None, "test": None}
    assert (card["trained"], card["size_bytes"]) == (None, None)
    for name in ("calibration", "error_by_category", "weaknesses", "data_warnings"):
        assert card[name] == []


def test_what_was_not_measured_is_null() -> None:
    facts = dataclasses.replace(all_facts(), metrics={"rmse": math.nan, "mae": math.inf, "mse": 1})
    assert card_data(facts)["metrics"] == {"rmse": None, "mae": None, "mse": 1.0}


def test_the_calibration_rises_and_covers_all_test_ads() -> None:
    bins = card_data(all_facts())["calibration"]
    predicted = [each["predicted"] for each in bins]
    assert predicted == sorted(predicted)
    assert sum(each["ads"] for each in bins) == TEST_ROWS


def test_errors_by_category_are_those_of_the_evaluation() -> None:
    slices = measured().slices
    expected = slices[slices["slice"] == "category_name"].set_index("value")
    errors = card_data(all_facts())["error_by_category"]
    assert {each["category"] for each in errors} == set(expected.index)
    counts = [each["ads"] for each in errors]
    assert counts == sorted(counts, reverse=True)
    for each in errors:
        row = expected.loc[each["category"]]
        assert each["rmse"] == row["rmse"]
        assert each["mean_predicted"] - each["mean_actual"] == pytest.approx(row["bias"])


def test_tables_without_means_have_null_means() -> None:
    slices = measured().slices.drop(columns=["actual_mean", "predicted_mean"])
    errors = card_data(dataclasses.replace(all_facts(), slices=slices))["error_by_category"]
    assert errors[0]["mean_actual"] is None


@given(text=TEXTS)
def test_any_text_can_be_written(text: str) -> None:
    slices = pd.DataFrame([{"slice": "category_name", "value": text, "rows": 20, "rmse": math.nan}])
    as_json(
        dataclasses.replace(
            bare_facts(),
            slices=slices,
            lineage=dict.fromkeys(("data_file", "data_md5", "data_rows", "git_commit"), text),
            data_warnings=[text],
            check_warnings=[text],
        )
    )


def test_a_warning_is_one_line() -> None:
    facts = dataclasses.replace(bare_facts(), check_warnings=["a\n  b", " "])
    assert card_data(facts)["weaknesses"] == ["a b"]
