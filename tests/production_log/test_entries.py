from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from demand.production_log.entries import COLUMNS, arrow_schema, entries_of
from tests.production_log.answered import AD, FULL, SALT, answered


def test_an_entry_has_the_answer_and_no_texts() -> None:
    entries = entries_of([answered(AD, FULL)], SALT)
    assert list(entries) == list(COLUMNS)
    assert entries["request_id"] == ["r-1", "r-1"]
    assert entries["row"] == [0, 1]
    assert entries["item_id"] == [None, "i-1"]
    assert entries["deal_probability"] == [0.0, 0.1]
    assert entries["price"] == [9000.0, 9000.0]
    assert entries["title_length"] == [16, 16]
    assert entries["description_length"] == [0, 11]
    assert entries["model_version"] == ["7", "7"]
    told = json.dumps(entries, ensure_ascii=False)
    assert not any(word in told for word in ("горный", "новый", "u-1"))


def test_what_was_missing_is_named() -> None:
    entries = entries_of([answered(FULL, {**AD, "price": None})], SALT)
    known, lacking = map(set, entries["missing"])
    assert not known & set(FULL)
    assert lacking - known == {"price", "description", "user_id", "item_id"}
    assert entries["price"] == [9000.0, None]


def test_sellers_are_told_apart_but_not_known() -> None:
    ads = [{**AD, "user_id": seller} for seller in ("anna", "boris", "anna")] + [AD]
    one, two, same, none = entries_of([answered(*ads)], SALT)["seller"]
    assert one == same
    assert one != two
    assert none is None
    assert entries_of([answered(ads[0])], b"t" * 32)["seller"] != [one]


def test_intervals_and_unknown_values_are_kept() -> None:
    low, high = np.array([0.0, 0.1]), np.array([0.2, 0.3])
    told = answered(AD, AD)._replace(interval=(low, high), unknown={1: ["region"]})
    entries = entries_of([told, answered(AD)], SALT)
    assert entries["low"] == [0.0, 0.1, None]
    assert entries["high"] == [0.2, 0.3, None]
    assert entries["unknown"] == [[], ["region"], []]


def test_probes_are_marked() -> None:
    requests = [answered(AD, AD, AD, probes=(0, 2)), answered(AD)]
    assert entries_of(requests, SALT)["probe"] == [True, False, True, False]


def test_entries_fit_their_schema() -> None:
    table = pa.Table.from_pydict(entries_of([answered(AD, FULL)], SALT), arrow_schema())
    assert table["at"][0].as_py().timestamp() == 1.7e9
