from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

from demand.model.explanation import FIELDS, LEFT_OUT, Explanation, explain, explained
from demand.schema.columns import INPUT_COLUMNS
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_predictor

Ad = Mapping[str, Any]

WHOLE: dict[str, Any] = {
    "item_id": "0000abc",
    "user_id": "0000def",
    "title": "Велосипед детский",
    "description": "Почти новый, торг",
    "price": 3500.0,
    "category_name": "Велосипеды",
    "parent_category_name": "Хобби и отдых",
    "param_1": "Детские",
    "param_2": "12 дюймов",
    "param_3": "Другой",
    "region": "Самарская область",
    "city": "Заречье",
    "user_type": "Private",
    "image": "f00d",
    "image_top_1": 1064,
    "item_seq_number": 7,
    "activation_date": "2017-03-28",
}
FEW = {name: WHOLE[name] for name in ("title", "category_name", "price", "city", "param_1")}
FEW_FIELDS = {"title", "category", "price", "location", "param_1"}


class Recorder:
    """A model made of a function of one ad, which notes what it was asked."""

    def __init__(self, function: Callable[[Ad], float]) -> None:
        self.function = function
        self.batches: list[list[Ad]] = []

    def __call__(self, ads: Sequence[Ad]) -> NDArray[np.float64]:
        self.batches.append(list(ads))
        return np.array([self.function(ad) for ad in ads])


def fields_of(ad: Ad) -> set[str]:
    """Return which fields of an ad are not left out."""
    told = {name for name, value in ad.items() if LEFT_OUT.get(name) != value}
    return {field for field, columns in FIELDS.items() if told.intersection(columns)}


def by_fields(function: Callable[[set[str]], float]) -> Recorder:
    return Recorder(lambda ad: function(fields_of(ad)))


def black_box(salt: int) -> Recorder:
    """Return a model that answers each set of fields with another number in [0, 1]."""
    return by_fields(lambda fields: crc32(repr((salt, sorted(fields))).encode()) / 2**32)


def brute_force(value: Callable[[set[str]], float], fields: set[str]) -> dict[str, float]:
    """Average over all orders of the fields: the definition."""
    total = dict.fromkeys(fields, 0.0)
    for order in itertools.permutations(sorted(fields)):
        for place, field in enumerate(order):
            total[field] += value(set(order[: place + 1])) - value(set(order[:place]))
    return {field: change / math.factorial(len(fields)) for field, change in total.items()}


@given(
    st.sets(st.sampled_from(sorted(WHOLE))),
    st.integers(0, 2**32),
    st.integers(1, 20),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_base_and_contributions_add_up_to_the_prediction(
    columns: set[str], salt: int, pairs: int, seed: int
) -> None:
    ad = {name: WHOLE[name] for name in columns}
    model = black_box(salt)
    found = explain(model, ad, permutations=2 * pairs, seed=seed)
    assert found.base + sum(found.contributions.values()) == pytest.approx(
        found.prediction, abs=1e-9
    )
    everything = {name: value for name, value in ad.items() if name not in ("item_id", "user_id")}
    assert found.prediction == model([LEFT_OUT | everything])[0]
    assert found.base == model([LEFT_OUT])[0]


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_few_fields_are_exact(salt: int) -> None:
    model = black_box(salt)
    found = explain(model, FEW)
    expected = brute_force(lambda fields: crc32_of(salt, fields), FEW_FIELDS)
    assert found.contributions == pytest.approx(expected, abs=1e-12)


def crc32_of(salt: int, fields: set[str]) -> float:
    return crc32(repr((salt, sorted(fields))).encode()) / 2**32


def test_all_fields_are_exact_where_sampling_would_ask_no_less() -> None:
    weights = dict(zip(FIELDS, np.linspace(0.01, 0.12, len(FIELDS)), strict=True))
    model = by_fields(lambda fields: sum(weights[field] for field in fields) ** 2)
    found = explain(model, WHOLE, permutations=374)
    assert len(model.batches[0]) == 2 ** len(FIELDS)
    # Of a squared sum a field's share is its weight times the whole sum.
    whole = sum(weights.values())
    assert found.contributions == pytest.approx(
        {field: weight * whole for field, weight in weights.items()}, abs=1e-12
    )


@pytest.mark.parametrize("permutations", [2, 32])
def test_of_a_sum_the_contributions_are_its_terms(permutations: int) -> None:
    terms = {field: 0.01 * (-1) ** place * place for place, field in enumerate(FIELDS)}
    model = by_fields(lambda fields: 0.3 + sum(terms[field] for field in fields))
    found = explain(model, WHOLE, permutations=permutations)
    assert found.base == pytest.approx(0.3)
    assert found.contributions == pytest.approx(terms, abs=1e-12)


@pytest.mark.parametrize("permutations", [2, 32, 374])
def test_a_field_that_the_model_ignores_contributes_nothing(permutations: int) -> None:
    model = by_fields(lambda fields: crc32_of(1, fields - {"price"}))
    assert explain(model, WHOLE, permutations=permutations).contributions["price"] == 0.0


@pytest.mark.parametrize("ad", [FEW, WHOLE])
def test_fields_of_equal_effect_share_equally(ad: Ad) -> None:
    model = by_fields(lambda fields: 0.5 * ({"title", "price"} <= fields) + 0.1 * len(fields))
    # Antithetic pairs split a joint effect of two fields exactly: each comes last once.
    found = explain(model, ad, permutations=4).contributions
    assert found["title"] == pytest.approx(0.35)
    assert found["price"] == pytest.approx(0.35)


def test_sampling_has_no_bias() -> None:
    def steep(fields: set[str]) -> float:
        return 1 / (1 + math.exp(3 - 0.4 * len(fields) - ("price" in fields)))

    exact = explain(by_fields(steep), WHOLE, permutations=374).contributions
    drawn = [explain(by_fields(steep), WHOLE, seed=seed).contributions for seed in range(60)]
    for field, value in exact.items():
        # One explanation is off by 0.02 at most as a rule, the mean of 60 by 0.0023.
        assert np.mean([sample[field] for sample in drawn]) == pytest.approx(value, abs=0.005)


@pytest.mark.parametrize(("ad", "asked"), [(FEW, 2**5), (WHOLE, 32 * 11 + 2)])
def test_the_model_is_asked_once_and_never_twice_the_same(ad: Ad, asked: int) -> None:
    model = black_box(0)
    explain(model, ad)
    (batch,) = model.batches
    assert len(batch) <= asked
    assert len({tuple(sorted(ad.items())) for ad in batch}) == len(batch)


def test_the_same_seed_gives_the_same_explanation() -> None:
    assert explain(black_box(3), WHOLE, seed=5) == explain(black_box(3), WHOLE, seed=5)
    assert explain(black_box(3), WHOLE, seed=5) != explain(black_box(3), WHOLE, seed=6)


def test_the_order_of_an_ads_columns_does_not_matter() -> None:
    turned = dict(reversed(WHOLE.items()))
    assert explain(black_box(3), WHOLE) == explain(black_box(3), turned)


def test_the_largest_contribution_comes_first() -> None:
    found = explain(black_box(7), WHOLE).contributions
    sizes = [abs(value) for value in found.values()]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.nan, pd.NaT, pd.NA, "", "  \n", np.datetime64("NaT")]
)
def test_a_missing_value_is_left_out(missing: object) -> None:
    model = black_box(0)
    found = explain(model, FEW | {"activation_date": missing, "description": missing})
    assert set(found.contributions) == FEW_FIELDS
    assert found == explain(black_box(0), FEW)


@pytest.mark.parametrize("value", [0, 0.0, False, datetime.date(2017, 3, 28), "0", [1, 2]])
def test_any_other_value_is_known(value: object) -> None:
    assert "price" in explain(black_box(0), {"price": value}).contributions


def test_columns_of_one_field_go_together() -> None:
    model = black_box(0)
    explain(model, WHOLE)
    for ad in model.batches[0]:
        for columns in FIELDS.values():
            told = [name in ad and LEFT_OUT.get(name) != ad[name] for name in columns]
            assert all(told) or not any(told)


def test_an_image_class_alone_is_an_image() -> None:
    found = explain(black_box(0), FEW | {"image_top_1": 1064})
    assert set(found.contributions) == FEW_FIELDS | {"image"}


def test_who_sells_and_which_item_it_is_stay_out_of_it() -> None:
    model = black_box(0)
    explain(model, WHOLE | {"deal_probability": 0.8})
    assert {name for ad in model.batches[0] for name in ad} == set(WHOLE) - {"item_id", "user_id"}


def test_every_column_that_is_no_name_belongs_to_one_field() -> None:
    columns = [column for columns in FIELDS.values() for column in columns]
    known = {column.name for column in INPUT_COLUMNS}
    assert sorted(columns) == sorted(known - {"item_id", "user_id"})


def test_an_ad_without_fields_is_its_own_base() -> None:
    found = explain(black_box(0), {"user_id": "0000def"})
    assert found == Explanation(found.base, found.base, {})


@pytest.mark.parametrize("permutations", [0, 1, 3, -2])
def test_permutations_that_make_no_pairs_are_an_error(permutations: int) -> None:
    with pytest.raises(ValueError, match=f"so {permutations} is no number of them"):
        explain(black_box(0), WHOLE, permutations=permutations)


@pytest.mark.parametrize("shape", [(), (3,), (32, 1)])
def test_an_answer_of_another_shape_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="answered 32 ads with the shape"):
        explain(lambda _: np.zeros(shape), FEW)


def test_an_answer_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ValueError, match="not finite"):
        explain(Recorder(lambda _: float("nan")), FEW)


@pytest.mark.parametrize("row", range(3))
def test_a_real_predictors_answer_is_explained(row: int) -> None:
    predictor = tiny_predictor()
    ad = make_ads(5).iloc[row].drop("deal_probability").to_dict()
    found = explain(lambda ads: predictor.predict(pd.DataFrame(list(ads))), ad)
    assert found.prediction == pytest.approx(predictor.predict_one(ad), abs=1e-6)
    assert found.base + sum(found.contributions.values()) == pytest.approx(
        found.prediction, abs=1e-9
    )


def shown(explanation: Explanation) -> list[str]:
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(explained(explanation))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_table_shows_base_fields_and_prediction() -> None:
    lines = shown(Explanation(0.25, 0.125, {"price": 0.15, "param_1": -0.025}))
    assert [line.split() for line in lines] == [
        ["field", "adds"],
        ["(nothing", "known)", "0.1250"],
        ["price", "+0.1500", "█" * 20],
        ["param_1", "-0.0250", "█" * 3],
        ["prediction", "0.2500"],
    ]


@pytest.mark.parametrize("contributions", [{}, {"price": 0.0}])
def test_the_table_of_nothing_has_no_bars(contributions: dict[str, float]) -> None:
    lines = shown(Explanation(0.25, 0.25, contributions))
    assert not any("█" in line for line in lines)
    assert lines[-1].split() == ["prediction", "0.2500"]
