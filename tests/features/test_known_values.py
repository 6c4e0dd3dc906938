from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from demand.features.category_statistics import category_statistics
from demand.features.known_values import KnownValues
from demand.schema.records import typed_records
from tests.ads_factory import make_ads

ADS = make_ads(400, seed=2)
KNOWN = KnownValues.from_statistics(category_statistics(ADS))
AD = {"title": "Стол", "category_name": str(ADS["category_name"][0])}


def test_the_ads_that_a_model_has_learnt_from_are_known() -> None:
    often = ADS.groupby("region")["region"].transform("size") >= 3
    columns = {str(name): ADS.loc[often, name].tolist() for name in ADS}
    assert list(KNOWN.unknown(columns)) == []


@pytest.mark.parametrize("field", ["category_name", "parent_category_name", "region", "user_type"])
def test_another_value_is_named_with_its_ad(field: str) -> None:
    typed = typed_records([AD, AD | {field: "Ковры-самолёты"}])
    assert list(KNOWN.unknown(typed)) == [(1, field, "Ковры-самолёты")]


@pytest.mark.parametrize("spelled", [str.upper, str.lower, lambda text: f" {text}\u00a0"])
def test_another_spelling_of_a_known_value_is_known(spelled: object) -> None:
    typed = typed_records([AD | {"category_name": spelled(AD["category_name"])}])  # type: ignore[operator]
    assert list(KNOWN.unknown(typed)) == []


def test_what_is_missing_is_not_unknown() -> None:
    assert list(KNOWN.unknown(typed_records([AD]))) == []


def test_unknown_values_are_counted() -> None:
    names = ["Ковры", AD["category_name"], "Лампы", "Ковры"]
    columns = {"category_name": np.array(names, dtype=object), "region": [None, None, "Луна", None]}
    assert KNOWN.counts(columns) == {
        "category_name": {"Ковры": 2, "Лампы": 1},
        "region": {"Луна": 1},
    }


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"categories": 5}', "[" * 100_000])
def test_a_market_that_cannot_be_read_knows_of_no_unknown_value(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "market.json"
    path.write_text(content)
    assert KnownValues.from_file(path) == KnownValues({})
    assert list(KnownValues({}).unknown({"category_name": ["Ковры"]})) == []


def test_a_model_without_a_market_knows_of_no_unknown_value(tmp_path: Path) -> None:
    assert KnownValues.from_file(tmp_path / "market.json") == KnownValues({})


def test_a_market_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "market.json"
    path.write_text(json.dumps(category_statistics(ADS)))
    assert KnownValues.from_file(path) == KNOWN
