from __future__ import annotations

import contextlib
import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.errors import OutcomeError
from demand.production_log.database import sqlite_engine
from demand.production_log.outcomes import (
    OutcomeStore,
    join_outcomes,
    outcomes_from_file,
    outcomes_from_json,
)
from tests.ads_factory import make_ads

DEAL = {"item_id": "i-1", "deal_probability": 1}
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
NAMES = st.sampled_from(["item_id", "request_id", "row", "deal_probability", "time"])


@pytest.fixture
def store(tmp_path: Path) -> OutcomeStore:
    return OutcomeStore(sqlite_engine(str(tmp_path / "outcomes.db")))


def kept(store: OutcomeStore) -> list[tuple[Any, ...]]:
    columns = ["item_id", "request_id", "row", "deal_probability"]
    return sorted(store.read()[columns].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("reported", "field"),
    [
        (1, None),
        ({}, "deal_probability"),
        ({"item_id": "i-1"}, "deal_probability"),
        ({"deal_probability": 1}, None),
        ({**DEAL, "request_id": "r-1"}, None),
        ({**DEAL, "item_id": ""}, "item_id"),
        ({**DEAL, "item_id": "a\0"}, "item_id"),
        ({**DEAL, "item_id": "a\ud800"}, "item_id"),
        ({**DEAL, "item_id": "a" * 65}, "item_id"),
        ({**DEAL, "item_id": 7}, "item_id"),
        ({"request_id": "a b", "deal_probability": 1}, "request_id"),
        ({"request_id": "r", "row": -1, "deal_probability": 1}, "row"),
        ({"request_id": "r", "row": 2**31, "deal_probability": 1}, "row"),
        ({**DEAL, "deal_probability": 1.1}, "deal_probability"),
        ({**DEAL, "deal_probability": "1"}, "deal_probability"),
        ({**DEAL, "deal_probability": True}, "deal_probability"),
        ({**DEAL, "deal_probability": float("nan")}, "deal_probability"),
        ({**DEAL, "time": "2026-03-28T12:00:00"}, "time"),
        ({**DEAL, "time": 1_700_000_000}, "time"),
        ({**DEAL, "time": "0001-01-01T00:00:00+14:00"}, "time"),
        ({**DEAL, "deal": 1}, "deal"),
    ],
    ids=str,
)
def test_what_is_no_outcome_is_refused_with_field_and_row(
    reported: object, field: str | None
) -> None:
    with pytest.raises(OutcomeError, match=r"^outcome 1: ") as refused:
        outcomes_from_json([DEAL, reported])
    assert (refused.value.field, refused.value.row) == (field, 1)


@given(st.lists(ANYTHING | st.dictionaries(NAMES, LEAF)))
def test_whatever_comes_is_read_or_refused(reported: list[object]) -> None:
    with contextlib.suppress(OutcomeError):
        read = outcomes_from_json(reported)
        assert all(0.0 <= outcome.deal_probability <= 1.0 for outcome in read)


def test_the_same_outcome_twice_is_one(store: OutcomeStore) -> None:
    reported = outcomes_from_json([DEAL, {"request_id": "r-1", "row": 2, "deal_probability": 0}])
    assert (store.add(reported), store.add(reported)) == (2, 2)
    assert kept(store) == [("", "r-1", 2, 0.0), ("i-1", "", 0, 1.0)]


def test_the_latest_outcome_counts_in_whatever_order_they_come(store: OutcomeStore) -> None:
    early = {**DEAL, "deal_probability": 0.0, "time": "2026-03-01T00:00:00Z"}
    late = {**DEAL, "time": "2026-03-01T01:00:00+00:30"}
    for order in ([early, late], [late, early]):
        store.add(outcomes_from_json(order))
        assert kept(store) == [("i-1", "", 0, 1.0)]


def test_labelled_ads_are_outcomes(tmp_path: Path, store: OutcomeStore) -> None:
    ads = make_ads(30)
    ads.to_csv(tmp_path / "ads.csv", index=False)
    for _ in range(2):
        assert store.add(outcomes_from_file(tmp_path / "ads.csv", 1.0)) == 30
    found = store.read().set_index("item_id")["deal_probability"]
    expected = ads.set_index("item_id")["deal_probability"]
    pd.testing.assert_series_equal(found.sort_index(), expected.sort_index())


def test_outcomes_are_joined_by_answer_before_ad() -> None:
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    columns = ["item_id", "request_id", "row", "deal_probability", "at"]
    outcomes = [("i-1", "", 0, 1.0, at), ("", "r-1", 1, 0.0, at)]
    entries = pd.DataFrame(
        {"item_id": ["i-1", "i-1", "i-2", None], "request_id": "r-1", "row": [0, 1, 2, 3]}
    )
    joined = join_outcomes(entries, pd.DataFrame(outcomes, columns=columns))["outcome"]
    assert joined.tolist()[:2] == [1.0, 0.0]
    assert joined.isna().tolist() == [False, False, True, True]


def test_without_outcomes_nothing_is_known(store: OutcomeStore) -> None:
    entries = pd.DataFrame({"item_id": ["i-1"], "request_id": ["r-1"], "row": [0]})
    assert join_outcomes(entries, store.read())["outcome"].isna().all()
