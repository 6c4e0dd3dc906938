from __future__ import annotations

import numpy as np
import pytest

from demand.errors import ModelError
from demand.evaluation.slices import measure_coverage
from demand.model.predictor import Predictor
from demand.model.training import ROWS_MIN, calibrate_intervals, refit
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads
from tests.tiny_model import FEATURES, TRAINING, tiny_predictor

ADS = make_ads(500)
HELD_OUT = make_ads(300, seed=5)


def test_a_refit_learns_for_as_many_epochs_as_it_is_told() -> None:
    seen: list[int] = []
    refit(ADS, 1, FEATURES, TRAINING, 1, lambda epoch: seen.append(epoch.epoch))
    assert seen == [1]


def test_a_refit_is_repeatable() -> None:
    one, other = (refit(ADS, 2, FEATURES, TRAINING, 1) for _ in range(2))
    assert one.predict(HELD_OUT).tobytes() == other.predict(HELD_OUT).tobytes()


def test_intervals_hold_what_they_promise_on_other_ads() -> None:
    model = calibrate_intervals(tiny_predictor(), tiny_predictor(), make_ads(2000, seed=6))
    others = make_ads(2000, seed=7)
    low, high = model.interval(others)
    answers = model.predict(others)
    assert ((low >= 0) & (low <= answers) & (answers <= high) & (high <= 1)).all()
    assert measure_coverage(others, low, high).overall == pytest.approx(0.8, abs=0.05)


def test_intervals_do_not_change_the_answers_and_outlive_saving(tmp_path) -> None:
    model = calibrate_intervals(tiny_predictor(), tiny_predictor(), HELD_OUT)
    assert model.predict(HELD_OUT).tobytes() == tiny_predictor().predict(HELD_OUT).tobytes()
    model.save(tmp_path / "model")
    again = Predictor.load(tmp_path / "model")
    assert again.has_intervals
    for one, other in zip(again.interval(HELD_OUT), model.interval(HELD_OUT), strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_few_held_out_ads_give_no_intervals() -> None:
    model = calibrate_intervals(tiny_predictor(), tiny_predictor(), HELD_OUT.head(ROWS_MIN - 1))
    assert not model.has_intervals
    with pytest.raises(ModelError, match="no intervals: too few ads"):
        model.interval(HELD_OUT)


def test_an_explanation_adds_up_to_the_answer() -> None:
    ad = {"title": "шкаф", "category_name": "Мебель и интерьер", "price": 500}
    explanation = tiny_predictor().explain(ad)
    total = explanation.base + sum(explanation.contributions.values())
    assert total == pytest.approx(tiny_predictor().predict_one(ad), abs=1e-9)


def test_a_missing_parent_category_follows_from_the_category() -> None:
    ads = HELD_OUT.assign(category_name="Велосипеды", parent_category_name="Хобби и отдых")
    without = ads.drop(columns=["parent_category_name", TARGET])
    np.testing.assert_array_equal(tiny_predictor().predict(without), tiny_predictor().predict(ads))
