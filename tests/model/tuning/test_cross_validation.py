from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from demand.config import FeatureSettings, SplitSettings, TrainingConfig
from demand.data.splitting import split_ads
from demand.errors import GateRefusal
from demand.evaluation.metrics import rmse
from demand.model.tuning.study import fit_model, fold_errors
from demand.schema.columns import TARGET
from tests.ads_factory import make_ads
from tests.model.tuning.made import ADS, BASE, Fits
from tests.tiny_model import FEATURES, TRAINING


def ids(ads: pd.DataFrame, column: str) -> set[str]:
    return set(ads[column])


def test_no_seller_lies_on_two_sides_of_a_fold() -> None:
    fits = Fits()
    assert len(list(fold_errors(ADS, BASE, 4, 1, fits))) == 4
    for parts in zip(fits.training, fits.validation, fits.held, strict=True):
        sellers = [ids(part, "user_id") for part in parts]
        assert sum(map(len, sellers)) == len(set.union(*sellers)) == ADS["user_id"].nunique()


def test_every_ad_is_held_once() -> None:
    fits = Fits()
    list(fold_errors(ADS, BASE, 4, 1, fits))
    assert sorted(pd.concat(fits.held)["item_id"]) == sorted(ADS["item_id"])


def test_folds_and_their_validation_parts_have_their_share_of_likely_deals() -> None:
    ads, fits = make_ads(3000, seed=5), Fits()
    list(fold_errors(ads, BASE, 5, 1, fits))
    for part in (*fits.held, *fits.validation):
        assert part[TARGET].mean() == pytest.approx(ads[TARGET].mean(), abs=0.05)
    assert [len(held) for held in fits.held] == pytest.approx([600] * 5, abs=5)


def test_the_same_seed_makes_the_same_folds_and_another_others() -> None:
    one, same, other = Fits(), Fits(), Fits()
    for fits, seed in ((one, 1), (same, 1), (other, 2)):
        list(fold_errors(ADS, BASE, 3, seed, fits))
    assert ids(one.held[0], "item_id") == ids(same.held[0], "item_id")
    assert ids(one.held[0], "item_id") != ids(other.held[0], "item_id")


def test_a_fold_is_not_fitted_before_it_is_asked_for() -> None:
    fits = Fits()
    next(fold_errors(ADS, BASE, 3, 1, fits))
    assert len(fits.training) == 1


def test_the_error_is_the_held_folds() -> None:
    fits = Fits()
    error = next(fold_errors(ADS, BASE, 3, 1, fits))
    off = abs(BASE.training.dropout - 0.4)
    answer = fits.training[0][TARGET].mean() + off
    assert error == rmse(fits.held[0][TARGET], np.full(len(fits.held[0]), answer))


def test_too_few_sellers_are_refused() -> None:
    ads = ADS.head(20).assign(user_id="one")
    with pytest.raises(GateRefusal, match="20 ads are of only 1 sellers, too few for 3 folds"):
        next(fold_errors(ads, BASE, 3, 1, Fits()))


def test_no_row_of_the_test_part_is_seen() -> None:
    ads = make_ads(400, seed=2)
    tested = split_ads(ads, SplitSettings(), seed=1).test
    fits = Fits()
    list(fold_errors(ads.drop(index=tested), BASE, 3, 1, fits))
    seen = ids(pd.concat([*fits.training, *fits.validation, *fits.held]), "item_id")
    assert not seen & ids(ads.loc[tested], "item_id")


def test_the_models_of_the_training_pipeline_are_better_than_chance() -> None:
    config = BASE.model_copy(update={"features": FEATURES, "training": TRAINING})
    error = next(fold_errors(make_ads(400), config, 2, 1))
    assert 0.1 < error < 0.5


def test_a_trial_with_crosses_is_fitted_as_the_pipeline_does() -> None:
    features = FeatureSettings(crosses=True, cross_buckets=4096, price_bins=4, statistics_folds=4)
    config = TrainingConfig(features=features)
    answers = fit_model(make_ads(200), make_ads(60, seed=1), config)(make_ads(30, seed=2))
    assert ((answers >= 0) & (answers <= 1)).all()
    assert answers.std() > 0
