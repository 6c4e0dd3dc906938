"""The behaviour checks: each bad habit fails exactly the check that is named for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand.config import CheckSettings
from demand.evaluation.behaviour import (
    BEHAVIOUR_NAMES,
    Finding,
    ModelUnderTest,
    behaviour_checks,
    edit_texts,
    with_dots,
    without_dots,
)
from tests.ads_factory import make_ads
from tests.toy_model import GoodModel, SpoiltModel

ADS = make_ads(400, seed=11)


def run(model: object, ads: pd.DataFrame = ADS) -> dict[str, Finding]:
    under_test = ModelUnderTest(model, ads)  # type: ignore[arg-type]
    return {c.name: c.run(["predictions_in_range"]) for c in behaviour_checks(under_test, SETTINGS)}


def failed(model: object) -> set[str]:
    return {name for name, finding in run(model).items() if not finding.passed}


SETTINGS = CheckSettings()


def shouting(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    return np.where(frame["title"].str.isupper(), p + 0.1, p)


def counting_spaces(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    return np.where(frame["title"].str.endswith(" "), p + 0.05, p)


def dotted(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    return np.where(frame["title"].str.contains("ё"), p + 0.05, p)


def loving_fire(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    return np.where(frame["title"].str.contains("🔥"), p + 0.05, p)


def first_column(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    return p if frame.columns[-1] != "item_id" else p + 0.001


def knowing_sellers(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    seller = frame["user_id"] if "user_id" in frame else pd.Series("", index=frame.index)
    return np.where(seller.isin(ADS["user_id"].iloc[:1]), p + 0.001, p)


def liking_wealth(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    price = frame["price"] if "price" in frame else pd.Series(0.0, index=frame.index)
    return np.where(price >= 5e9, p + 0.6, p)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (shouting, "invariance_case"),
        (counting_spaces, "invariance_trailing_spaces"),
        (dotted, "invariance_yo"),
        (loving_fire, "invariance_emoji_end"),
        (first_column, "invariance_column_order"),
        (knowing_sellers, "invariance_unknown_ids"),
        (liking_wealth, "direction_absurd_price"),
        (lambda _, p: p + 1.0, "predictions_in_range"),
        (lambda _, p: p - 1e-3, "predictions_in_range"),
        (lambda _, p: p * 1e-3 + 0.14, "predictions_not_constant"),
    ],
)
def test_each_bad_habit_fails_its_own_check_only(
    spoil: Callable[[pd.DataFrame, np.ndarray], np.ndarray], name: str
) -> None:
    assert failed(SpoiltModel(spoil)) == {name}


def test_a_model_that_behaves_passes_every_check() -> None:
    assert failed(GoodModel()) == set()


def test_every_name_is_checked() -> None:
    assert tuple(run(GoodModel())) == BEHAVIOUR_NAMES


def test_a_constant_model_fails_for_being_constant_only() -> None:
    assert failed(SpoiltModel(lambda _, p: np.full(len(p), 0.14))) == {"predictions_not_constant"}


def test_nan_passes_no_check() -> None:
    assert failed(SpoiltModel(lambda _, p: np.full(len(p), np.nan))) == set(BEHAVIOUR_NAMES)


def test_a_single_nan_is_out_of_range() -> None:
    def one_nan(_: pd.DataFrame, p: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(p)) == 0, np.nan, p)

    assert "predictions_in_range" in failed(SpoiltModel(one_nan))


def test_a_model_that_needs_the_price_fails_on_bare_ads() -> None:
    def needs_price(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
        return p + 0.0 * frame["price"].fillna(0.0).to_numpy()

    finding = run(SpoiltModel(needs_price))["predictions_in_range"]
    assert "raised KeyError: 'price'" in finding.detail


def test_an_answer_of_another_shape_is_a_failure_that_says_so() -> None:
    finding = run(SpoiltModel(lambda _, p: p[:, np.newaxis]))["predictions_not_constant"]
    assert "400 ads got an answer of shape (400, 1)" in finding.detail


def test_the_detail_has_the_observed_and_the_demanded_value_on_one_line() -> None:
    detail = run(SpoiltModel(shouting))["invariance_case"].detail
    assert "0.1000 (upper case)" in detail
    assert "at most 0.02" in detail
    assert "\n" not in detail


def test_only_the_named_checks_are_critical() -> None:
    critical = [name for name, finding in run(GoodModel()).items() if finding.critical]
    assert critical == ["predictions_in_range"]


def test_the_model_never_sees_the_target() -> None:
    seen: set[str] = set()

    def look(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
        seen.update(frame.columns)
        return p

    run(SpoiltModel(look))
    assert "deal_probability" not in seen


def test_a_model_that_writes_into_its_input_spoils_no_other_check() -> None:
    class Careless(GoodModel):
        def predict(self, frame: pd.DataFrame) -> np.ndarray:
            answer = super().predict(frame)
            frame["title"] = "испорчено"
            return answer

    assert failed(Careless()) == set()


@given(st.text(alphabet="абвеёчрныйтЕЁ 1!", max_size=40))
def test_the_two_spellings_differ_in_nothing_but_dots(text: str) -> None:
    assert with_dots(text).replace("ё", "е").replace("Ё", "Е") == without_dots(text)


def test_the_two_spellings_differ_for_every_text() -> None:
    assert with_dots("") != without_dots("")


def test_editing_keeps_missing_text_missing() -> None:
    edited = edit_texts(ADS, str.upper)
    assert (edited["description"].isna() == ADS["description"].isna()).all()
