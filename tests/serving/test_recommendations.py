from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.schema.columns import COLUMN
from demand.serving.recommendations import (
    CURVE_POINTS,
    GAIN_MIN,
    SUGGESTIONS_MAX,
    TITLE_LETTERS_MAX,
    Plan,
    fuller_title,
    longer_description,
    next_values,
    plan,
)

FACTS: dict[str, Any] = {
    "name": "Велосипеды",
    "ads": 170,
    "params": [
        {"value": "Горные", "ads": 90, "next": [{"value": "26 дюймов", "ads": 40, "next": []}]},
        {"value": "Детские", "ads": 50, "next": []},
        {"value": "Другие", "ads": 20, "next": []},
        {"value": "Запчасти", "ads": 10, "next": []},
    ],
    "price": {"p10": 1000.0, "p25": 3000.0, "p50": 5000.0, "p75": 9000.0, "p90": 20_000.0},
    "description_letters": {"p25": 40.0, "p50": 120.0, "p75": 300.0},
    "title_words": {"p25": 1.0, "p50": 2.0, "p75": 4.0},
}
AD: dict[str, Any] = {"title": "Велосипед", "category_name": "Велосипеды", "price": 15_000.0}


def answers(asked: Plan, base: float = 0.2, **changed: float) -> list[float]:
    """Answer ``base``, but for ads in which a field was changed."""
    found = []
    for ad in asked.ads:
        differs = [name for name in changed if ad.get(name) != asked.ads[0].get(name)]
        found.append(changed[differs[0]] if differs else base)
    return found


def test_the_ad_itself_is_asked_about_first_and_unchanged() -> None:
    assert plan(AD, FACTS).ads[0] == AD


def test_every_other_ad_differs_in_one_field_only() -> None:
    for ad in plan(AD, FACTS).ads[1:]:
        changed = {name for name in ad if ad[name] != AD.get(name)}
        assert len(changed) <= 1
        assert AD.keys() <= ad.keys()


def test_what_the_model_gives_nothing_for_is_not_suggested() -> None:
    asked = plan(AD, FACTS)
    assert asked.read(answers(asked)).suggestions == ()
    assert asked.read(answers(asked, image=0.2 + GAIN_MIN / 2)).suggestions == ()


def test_a_suggestion_carries_the_models_own_answer() -> None:
    asked = plan(AD, FACTS)
    (found,) = asked.read(answers(asked, image=0.26)).suggestions
    assert (found.kind, found.field) == ("photo", "image")
    assert found.probability == 0.26
    assert found.gain == pytest.approx(0.06)


def test_at_most_five_come_the_largest_gain_first() -> None:
    ad = AD | {"param_1": "Горные"}
    asked = plan(ad, FACTS)
    gains = {"image": 0.3, "description": 0.5, "title": 0.4, "param_2": 0.25, "price": 0.35}
    found = asked.read(answers(asked, **gains)).suggestions
    kinds = [suggestion.kind for suggestion in found]
    assert kinds == ["description", "title", "price", "photo", "param"]
    assert len(found) <= SUGGESTIONS_MAX


def test_a_photo_that_is_there_is_not_asked_for() -> None:
    asked = plan(AD | {"image": "1.jpg"}, FACTS)
    assert all(ad["image"] == "1.jpg" for ad in asked.ads)


def test_of_a_params_values_the_most_common_that_helps_is_the_example() -> None:
    asked = plan(AD, FACTS)
    given = [
        {"Горные": 0.2, "Детские": 0.25, "Другие": 0.9}.get(ad.get("param_1", ""), 0.2)
        for ad in asked.ads
    ]
    (found,) = asked.read(given).suggestions
    assert found.value == "Детские"


def test_the_next_param_depends_on_the_one_before() -> None:
    assert next_values(AD, FACTS) == ("param_1", ["Горные", "Детские", "Другие", "Запчасти"])
    assert next_values(AD | {"param_1": "Горные"}, FACTS) == ("param_2", ["26 дюймов"])
    assert next_values(AD | {"param_1": "Детские"}, FACTS) is None
    assert next_values(AD | {"param_1": "своё"}, FACTS) is None


def test_a_price_is_suggested_within_the_market_and_near_todays() -> None:
    asked = plan(AD, FACTS)
    # The cheaper the better, down to prices at which nobody should be told to sell.
    given = [0.5 - ad["price"] / 100_000 for ad in asked.ads]
    advice = asked.read(given)
    (price,) = [s for s in advice.suggestions if s.kind == "price"]
    assert 3000 <= price.value <= 9000
    largest = max(a for ad, a in zip(asked.ads, given, strict=True) if 3000 <= ad["price"] <= 9000)
    assert price.gain >= 0.8 * (largest - given[0])
    assert price.value > 3000


def test_a_price_that_is_missing_is_suggested_from_the_middle() -> None:
    asked = plan({"title": "Велосипед", "category_name": "Велосипеды"}, FACTS)
    given = [0.3 if "price" in ad else 0.2 for ad in asked.ads]
    (price,) = [s for s in asked.read(given).suggestions if s.kind == "price"]
    assert 4000 <= price.value <= 6500


def test_the_curve_is_dense_and_holds_todays_price_inside() -> None:
    for today in (15_000.0, 200.0, 90_000.0):
        asked = plan(AD | {"price": today}, FACTS)
        curve = asked.read([0.1] * len(asked.ads)).curve
        assert curve is not None
        assert CURVE_POINTS * 0.7 <= len(curve.prices) <= CURVE_POINTS + 3
        assert curve.prices[0] < today < curve.prices[-1]
        assert today in curve.prices
        assert curve.prices[0] <= 1000 < 20_000 <= curve.prices[-1]


def test_the_best_range_is_where_the_answer_is_near_its_highest() -> None:
    asked = plan(AD, FACTS)
    given = [0.4 if 4000 <= ad["price"] <= 6000 else 0.2 for ad in asked.ads]
    curve = asked.read(given).curve
    assert curve is not None
    assert 4000 <= curve.best[0] < curve.best[1] <= 6000
    assert curve.market == (3000.0, 9000.0)


def test_a_best_range_never_leaves_the_market() -> None:
    asked = plan(AD, FACTS)
    curve = asked.read([0.2] * len(asked.ads)).curve
    assert curve is not None
    assert 3000 <= curve.best[0] <= curve.best[1] <= 9000


def test_near_quartiles_have_a_curve_too() -> None:
    spread = {"p10": 100.0, "p25": 3010.0, "p50": 3012.0, "p75": 3014.0, "p90": 90_000.0}
    asked = plan(AD, FACTS | {"price": spread})
    given = [0.4 if ad["price"] == 3000 else 0.2 for ad in asked.ads]
    advice = asked.read(given)
    assert advice.curve is not None
    assert advice.curve.market == advice.curve.best == (3000.0, 3000.0)
    few = plan(AD, FACTS | {"price": spread}, curve=False)
    assert 3000.0 in {ad["price"] for ad in few.ads}


def test_no_text_grows_beyond_what_an_ad_may_have() -> None:
    most = COLUMN["description"].max_length
    assert most is not None
    assert longer_description(AD | {"description": "а" * (most - 5)}) is None
    longer = longer_description(AD | {"description": "а" * (most - 200)})
    assert longer is not None
    assert len(longer) <= most


def test_alone_an_ad_is_asked_about_without_changes() -> None:
    alone = plan(AD, FACTS).alone()
    assert alone.ads == (AD,)
    advice = alone.read([0.3])
    assert (advice.probability, advice.curve, advice.suggestions) == (0.3, None, ())


def test_without_facts_nothing_is_said_of_prices_and_params() -> None:
    asked = plan(AD, None)
    advice = asked.read(answers(asked, image=0.3, price=0.9, param_1=0.9))
    assert advice.curve is None
    assert [suggestion.kind for suggestion in advice.suggestions] == ["photo"]


def test_a_category_without_prices_has_no_curve() -> None:
    asked = plan(AD, FACTS | {"price": None})
    assert asked.read([0.1] * len(asked.ads)).curve is None


def test_for_a_file_few_questions_are_asked() -> None:
    assert len(plan(AD, FACTS, curve=False).ads) <= 12


def test_a_longer_description_begins_with_the_sellers_own_words() -> None:
    ad = AD | {"description": "Катались мало", "city": "Самара", "param_1": "Горные"}
    longer = longer_description(ad)
    assert longer is not None
    assert longer.startswith("Катались мало")
    assert "Самара" in longer
    assert "Горные" in longer
    assert longer_description(ad | {"description": longer}) is None


def test_a_description_that_is_long_already_is_left_alone() -> None:
    asked = plan(AD | {"description": "а" * 500}, FACTS)
    assert all(ad["description"] == "а" * 500 for ad in asked.ads)


def test_a_fuller_title_stays_within_what_the_site_allows() -> None:
    ad = AD | {"param_1": "Горные", "param_2": "Другое"}
    assert fuller_title(ad) == "Велосипед, горные"
    assert fuller_title(ad | {"title": "Велосипеды ГОРНЫЕ"}) is None
    assert fuller_title(ad | {"title": "в" * TITLE_LETTERS_MAX}) is None


def test_as_many_answers_as_questions_are_wanted() -> None:
    with pytest.raises(ValueError, match="1 answers to"):
        plan(AD, FACTS).read([0.5])


def rounding(price: float) -> float:
    """Return how far a price of two significant digits may be from one."""
    return max(0.5, 0.05 * price)


@given(
    price=st.none() | st.floats(0, 1e12),
    spread=st.lists(st.floats(0, 1e9), min_size=5, max_size=5).map(sorted),
    seed=st.integers(0, 2**32 - 1),
    curve=st.booleans(),
)
def test_whatever_the_market_advice_is_what_the_model_said(
    price: float | None, spread: list[float], seed: int, curve: bool
) -> None:
    facts = FACTS | {"price": dict(zip(("p10", "p25", "p50", "p75", "p90"), spread, strict=True))}
    asked = plan(AD | {"price": price}, facts, curve=curve)
    given = [((seed * (i + 1)) % 1009) / 1009 for i in range(len(asked.ads))]
    advice = asked.read(given)
    assert len(advice.suggestions) <= SUGGESTIONS_MAX
    for suggestion in advice.suggestions:
        assert suggestion.gain >= GAIN_MIN
        said = [
            answer
            for ad, answer in zip(asked.ads, given, strict=True)
            if ad.get(suggestion.field) == suggestion.value
        ]
        assert suggestion.probability in said
        if suggestion.kind == "price":
            assert spread[1] - rounding(spread[1]) <= suggestion.value
            assert suggestion.value <= spread[3] + rounding(spread[3])
    if advice.curve is not None:
        assert list(advice.curve.prices) == sorted(set(advice.curve.prices))
